//! Ports of Services: names without a protocol, and Services that disagree about a workload.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalogue::{
    DEPLOYMENT_ASSOCIATED_TO_MULTIPLE_SERVICES, DEPLOYMENT_CONFLICTING_PORTS,
    EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME, PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION,
};
use super::super::kubernetes::{Service, ServicePort};
use super::super::message::names as listed;
use super::super::report::Report;
use super::super::resources::workloads::is_in_mesh;
use super::super::resources::{Resource, Resources};
use super::injection::KUBERNETES_NAMESPACES;
use crate::validation::primitives::protocol::Protocol;

/// Label of Services that belong to a Gateway of the Gateway API.
const MANAGED: &str = "gateway.istio.io/managed";
/// Ports on which servers speak first, so that detection cannot work: they are TCP.
const SERVER_FIRST: [u32; 4] = [25, 53, 3306, 27017];

pub(super) fn names(resources: &Resources, report: &mut Report) {
    for service in resources.services.all() {
        let is_other = service.is_control_plane()
            || service.head.labels.contains_key(MANAGED)
            || KUBERNETES_NAMESPACES.contains(&service.namespace());
        if is_other {
            continue;
        }
        let origin = &service.head.origin;
        for (i, port) in service.spec.ports.iter().enumerate() {
            let says = says_protocol(port);
            if service.spec.is_external_name {
                if !says || port.name == "tcp" {
                    let code = &EXTERNAL_NAME_SERVICE_TYPE_INVALID_PORT_NAME;
                    report.add(code, origin, format!("spec.ports[{i}].name"), []);
                }
            } else if !says {
                report.add(
                    &PORT_NAME_IS_NOT_UNDER_NAMING_CONVENTION,
                    origin,
                    format!("spec.ports[{i}].name"),
                    [port.name.clone(), port.port.to_string(), target(port)],
                );
            }
        }
    }
}

/// Whether the protocol of a port is known without looking at its traffic.
fn says_protocol(port: &ServicePort) -> bool {
    if port.protocol == "UDP" {
        return true;
    }
    let known = |name: &str| Protocol::parse(name).is_some();
    let says = match port.app_protocol.as_deref() {
        Some("kubernetes.io/h2c" | "kubernetes.io/ws" | "kubernetes.io/wss") => true,
        Some(name) => known(name),
        None => {
            let name = port.name.to_ascii_lowercase();
            name.starts_with("grpc-web") || name.split('-').next().is_some_and(known)
        }
    };
    says || SERVER_FIRST.contains(&port.port)
}

pub(super) fn of_deployments(resources: &Resources, report: &mut Report) {
    for deployment in &resources.deployments {
        let spec = &deployment.spec;
        let namespace = resources.namespaces.get(deployment.namespace());
        if !is_in_mesh(&spec.template, &spec.labels, &spec.annotations, namespace) {
            continue;
        }
        let services = resources
            .services
            .selecting(deployment.namespace(), &spec.labels);
        if services.len() < 2 {
            continue;
        }
        let origin = &deployment.head.origin;
        let field = "metadata.name";
        for (port, found) in grouped(&services, |port| (port.port, port.protocol.clone())) {
            if found.values.len() > 1 && found.services.len() > 1 {
                report.add(
                    &DEPLOYMENT_ASSOCIATED_TO_MULTIPLE_SERVICES,
                    origin,
                    field,
                    [deployment.full_name(), port, listed(found.services)],
                );
            }
        }
        let by_target = grouped(&services, |port| (target(port), port.port.to_string()));
        for (target, found) in by_target {
            if found.values.len() > 1 && found.services.len() > 1 {
                report.add(
                    &DEPLOYMENT_CONFLICTING_PORTS,
                    origin,
                    field,
                    [
                        deployment.full_name(),
                        listed(found.services),
                        target,
                        listed(found.values),
                    ],
                );
            }
        }
    }
}

fn target(port: &ServicePort) -> String {
    if port.target.is_empty() {
        port.port.to_string()
    } else {
        port.target.clone()
    }
}

#[derive(Default)]
struct Group {
    values: BTreeSet<String>,
    services: BTreeSet<String>,
}

fn grouped<K: ToString>(
    services: &[&Resource<Service>],
    split: impl Fn(&ServicePort) -> (K, String),
) -> BTreeMap<String, Group> {
    let mut groups: BTreeMap<String, Group> = BTreeMap::new();
    for service in services {
        for port in &service.spec.ports {
            let (key, value) = split(port);
            let group = groups.entry(key.to_string()).or_default();
            group.values.insert(value);
            group.services.insert(service.name().to_owned());
        }
    }
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn protocols_come_from_the_field_the_name_or_the_number() {
        let port =
            |name: &str, app_protocol: Option<&str>, port: u32, protocol: &str| ServicePort {
                name: name.into(),
                port,
                protocol: protocol.into(),
                target: String::new(),
                app_protocol: app_protocol.map(str::to_owned),
            };
        for good in [
            port("http", None, 80, "TCP"),
            port("HTTP2-a", None, 80, "TCP"),
            port("grpc-webby", None, 80, "TCP"),
            port("x", None, 80, "UDP"),
            port("x", Some("kubernetes.io/h2c"), 80, "TCP"),
            port("", None, 3306, "TCP"),
        ] {
            assert!(says_protocol(&good), "{good:?}");
        }
        for bad in [
            port("web", None, 80, "TCP"),
            port("", None, 80, "TCP"),
            port("http", Some("x"), 80, "TCP"),
        ] {
            assert!(!says_protocol(&bad), "{bad:?}");
        }
    }
}
