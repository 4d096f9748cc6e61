//! VirtualServices: gateways that they name, and hosts that several of them claim.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalogue::{
    CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS, JWT_CLAIM_BASED_ROUTING_WITHOUT_REQUEST_AUTHN,
    REFERENCED_RESOURCE_NOT_FOUND, VIRTUAL_SERVICE_HOST_NOT_FOUND_IN_GATEWAY,
};
use super::super::message::names;
use super::super::report::Report;
use super::super::resources::hosts::{EVERYWHERE, Matcher, full, scopes};
use super::super::resources::workloads::Workload;
use super::super::resources::{Resource, Resources};
use super::super::selection::{Labels, selects};
use crate::validation::primitives::header::is_claim;
use istio_api::networking::v1alpha3::{Gateway, VirtualService};
use istio_api::well_known::names::MESH_GATEWAY;

pub(super) fn mesh_hosts(resources: &Resources, report: &mut Report) {
    let mut claims: BTreeMap<(String, String), BTreeSet<usize>> = BTreeMap::new();
    let mut public = Matcher::default();
    for (index, service) in resources.virtual_services.iter().enumerate() {
        let gateways = &service.spec.gateways;
        if !gateways.is_empty() && !gateways.iter().any(|name| name == MESH_GATEWAY) {
            continue;
        }
        let export_to = service.spec.export_to.iter().map(String::as_str);
        for scope in scopes(export_to, service.namespace()) {
            for host in &service.spec.hosts {
                let host = full(host, service.namespace());
                if scope == EVERYWHERE {
                    public.add(&host, index);
                }
                claims
                    .entry((scope.clone(), host))
                    .or_default()
                    .insert(index);
            }
        }
    }
    for ((scope, host), mut claimants) in claims {
        if scope != EVERYWHERE {
            claimants.extend(public.matching(&host));
        }
        if claimants.len() < 2 {
            continue;
        }
        let all = claimants
            .iter()
            .filter_map(|index| resources.virtual_services.get(*index));
        let listed = names(all.clone().map(|service| service.full_name()));
        for service in all {
            report.add(
                &CONFLICTING_MESH_GATEWAY_VIRTUAL_SERVICE_HOSTS,
                &service.head.origin,
                "metadata.name",
                [listed.clone(), format!("{scope}/{host}")],
            );
        }
    }
}

/// Hosts of a Gateway's servers, by the namespace that they are for.
type Served = BTreeMap<String, Matcher>;

fn served(gateway: &Resource<Gateway>) -> Served {
    let mut served = Served::new();
    for host in gateway.spec.servers.iter().flat_map(|server| &server.hosts) {
        let (namespace, host) = host.split_once('/').unwrap_or((EVERYWHERE, host));
        let namespace = if namespace == "." {
            gateway.namespace()
        } else {
            namespace
        };
        served.entry(namespace.to_owned()).or_default().add(host, 0);
    }
    served
}

pub(super) fn gateways(resources: &Resources, report: &mut Report) {
    let mut known: BTreeMap<String, Served> = BTreeMap::new();
    for service in &resources.virtual_services {
        let origin = &service.head.origin;
        for (i, name) in service.spec.gateways.iter().enumerate() {
            if name == MESH_GATEWAY {
                continue;
            }
            let Some(gateway) = resources.gateway(name, service.namespace()) else {
                report.add(
                    &REFERENCED_RESOURCE_NOT_FOUND,
                    origin,
                    format!("spec.gateways[{i}]"),
                    ["gateway".to_owned(), name.clone()],
                );
                continue;
            };
            let served = known
                .entry(gateway.full_name())
                .or_insert_with(|| served(gateway));
            let visible = [EVERYWHERE, service.namespace()].into_iter();
            let mut visible = visible.filter_map(|namespace| served.get(namespace));
            let is_served = visible.any(|matcher| {
                let mut hosts = service.spec.hosts.iter();
                hosts.any(|host| matcher.matching(host).next().is_some())
            });
            if !is_served {
                report.add(
                    &VIRTUAL_SERVICE_HOST_NOT_FOUND_IN_GATEWAY,
                    origin,
                    "spec.hosts",
                    [
                        names(&service.spec.hosts),
                        service.name().to_owned(),
                        name.clone(),
                    ],
                );
            }
        }
    }
}

pub(super) fn claims(resources: &Resources, report: &mut Report) {
    let policies = Policies::new(resources);
    for service in &resources.virtual_services {
        let Some((key, field)) = claim(&service.spec) else {
            continue;
        };
        for name in &service.spec.gateways {
            let Some(gateway) = resources.gateway(name, service.namespace()) else {
                continue;
            };
            // Only the first workload of a gateway is named.
            let selected = resources.workloads.selected(None, &gateway.spec.selector);
            let mut open = selected.filter(|workload| !policies.cover(workload));
            if let Some(workload) = open.next() {
                report.add(
                    &JWT_CLAIM_BASED_ROUTING_WITHOUT_REQUEST_AUTHN,
                    &service.head.origin,
                    field.clone(),
                    [
                        key.to_owned(),
                        gateway.full_name(),
                        workload.pod.full_name(),
                    ],
                );
            }
        }
    }
}

/// The first token claim that requests are routed by, and its field.
fn claim(spec: &VirtualService) -> Option<(&str, String)> {
    for (i, http) in spec.http.iter().enumerate() {
        for (j, one) in http.r#match.iter().enumerate() {
            for (member, map) in [
                ("headers", &one.headers),
                ("withoutHeaders", &one.without_headers),
            ] {
                if let Some(key) = map.keys().find(|key| is_claim(key)) {
                    return Some((key, format!("spec.http[{i}].match[{j}].{member}")));
                }
            }
        }
    }
    None
}

/// Selectors of the RequestAuthentications, by namespace.
struct Policies<'a> {
    selectors: BTreeMap<&'a str, Vec<Option<&'a Labels>>>,
    /// Namespaces whose policies apply everywhere.
    roots: [&'a str; 2],
}

impl<'a> Policies<'a> {
    fn new(resources: &'a Resources) -> Self {
        let mut selectors: BTreeMap<&str, Vec<Option<&Labels>>> = BTreeMap::new();
        for policy in &resources.request_authentications {
            let selector = policy.spec.selector.as_ref();
            let selector = selector.map(|selector| &selector.match_labels);
            let of_namespace = selectors.entry(policy.namespace()).or_default();
            of_namespace.push(selector);
        }
        Self {
            selectors,
            roots: [&resources.mesh.root_namespace, &resources.istio_namespace],
        }
    }

    fn cover(&self, workload: &Workload) -> bool {
        self.roots
            .into_iter()
            .chain([workload.pod.namespace()])
            .filter_map(|namespace| self.selectors.get(namespace))
            .flatten()
            .any(|selector| selector.is_none_or(|it| selects(it, workload.labels())))
    }
}
