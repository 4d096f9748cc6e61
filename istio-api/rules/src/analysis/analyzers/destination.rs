//! Destinations of VirtualServices: hosts and ports that do not exist, and routes by subset that
//! requests from a gateway bypass.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalogue::{
    INGRESS_ROUTE_RULES_NOT_AFFECTED, REFERENCED_RESOURCE_NOT_FOUND,
    VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED,
};
use super::super::message::names;
use super::super::report::Report;
use super::super::resources::hosts::full;
use super::super::resources::{Resource, Resources};
use istio_api::networking::v1alpha3::{Destination, VirtualService};
use istio_api::well_known::names::MESH_GATEWAY;

/// A destination that a VirtualService uses.
pub(super) struct Use<'a> {
    pub(super) destination: &'a Destination,
    /// Path of the destination.
    pub(super) field: String,
    pub(super) is_mirror: bool,
    pub(super) is_http: bool,
}

/// All destinations in order; validation reports those that are missing.
pub(super) fn uses<'a>(spec: &'a VirtualService) -> Vec<Use<'a>> {
    let mut all = Vec::new();
    let mut add = |destination: Option<&'a Destination>, field, is_mirror, is_http| {
        if let Some(destination) = destination {
            all.push(Use {
                destination,
                field,
                is_mirror,
                is_http,
            });
        }
    };
    for (i, http) in spec.http.iter().enumerate() {
        for (j, route) in http.route.iter().enumerate() {
            let field = format!("spec.http[{i}].route[{j}].destination");
            add(route.destination.as_ref(), field, false, true);
        }
        add(
            http.mirror.as_ref(),
            format!("spec.http[{i}].mirror"),
            true,
            true,
        );
        for (j, mirror) in http.mirrors.iter().enumerate() {
            let field = format!("spec.http[{i}].mirrors[{j}].destination");
            add(mirror.destination.as_ref(), field, true, true);
        }
    }
    for (i, tcp) in spec.tcp.iter().enumerate() {
        for (j, route) in tcp.route.iter().enumerate() {
            let field = format!("spec.tcp[{i}].route[{j}].destination");
            add(route.destination.as_ref(), field, false, false);
        }
    }
    for (i, tls) in spec.tls.iter().enumerate() {
        for (j, route) in tls.route.iter().enumerate() {
            let field = format!("spec.tls[{i}].route[{j}].destination");
            add(route.destination.as_ref(), field, false, false);
        }
    }
    all
}

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    let by_subset = by_subset(resources);
    for service in &resources.virtual_services {
        let is_ingress = service
            .spec
            .gateways
            .iter()
            .any(|name| name != MESH_GATEWAY);
        for one in uses(&service.spec) {
            target(resources, service, &one, report);
            if is_ingress && one.is_http && !one.is_mirror && one.destination.subset.is_empty() {
                passed_by(&by_subset, service, &one, report);
            }
        }
    }
}

fn target(
    resources: &Resources,
    service: &Resource<VirtualService>,
    one: &Use<'_>,
    report: &mut Report,
) {
    let origin = &service.head.origin;
    let host = &one.destination.host;
    let field = &one.field;
    let Some(target) = resources.hosts.find(host, service.namespace()) else {
        let kind = if one.is_mirror { "mirror host" } else { "host" };
        report.add(
            &REFERENCED_RESOURCE_NOT_FOUND,
            origin,
            format!("{field}.host"),
            [kind.to_owned(), host.clone()],
        );
        return;
    };
    match &one.destination.port {
        None if target.ports.len() > 1 => report.add(
            &VIRTUAL_SERVICE_DESTINATION_PORT_SELECTOR_REQUIRED,
            origin,
            format!("{field}.host"),
            [host.clone(), names(&target.ports)],
        ),
        Some(port) if !target.ports.contains(&port.number) => report.add(
            &REFERENCED_RESOURCE_NOT_FOUND,
            origin,
            format!("{field}.port.number"),
            ["host:port".to_owned(), format!("{host}:{}", port.number)],
        ),
        _ => {}
    }
}

type Name = (String, String);

/// VirtualServices that route requests for one of their hosts to a subset of it, by that host.
fn by_subset(resources: &Resources) -> BTreeMap<String, Vec<Name>> {
    let mut found: BTreeMap<String, Vec<Name>> = BTreeMap::new();
    for service in &resources.virtual_services {
        let namespace = service.namespace();
        let name = (namespace.to_owned(), service.name().to_owned());
        let uses = uses(&service.spec);
        let subsets: BTreeSet<String> = uses
            .iter()
            .filter(|one| one.is_http && !one.is_mirror && !one.destination.subset.is_empty())
            .map(|one| full(&one.destination.host, namespace))
            .collect();
        let hosts: BTreeSet<String> = service
            .spec
            .hosts
            .iter()
            .map(|host| full(host, namespace))
            .collect();
        for host in hosts.intersection(&subsets) {
            found.entry(host.clone()).or_default().push(name.clone());
        }
    }
    found
}

fn passed_by(
    by_subset: &BTreeMap<String, Vec<Name>>,
    service: &Resource<VirtualService>,
    one: &Use<'_>,
    report: &mut Report,
) {
    let host = full(&one.destination.host, service.namespace());
    let others = by_subset.get(&host).into_iter().flatten();
    let others: Vec<String> = others
        .filter(|(namespace, name)| namespace != service.namespace() || name != service.name())
        .map(|(namespace, name)| format!("{namespace}/{name}"))
        .collect();
    if !others.is_empty() {
        report.add(
            &INGRESS_ROUTE_RULES_NOT_AFFECTED,
            &service.head.origin,
            format!("{}.host", one.field),
            [names(others), service.full_name()],
        );
    }
}
