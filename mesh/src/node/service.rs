//! Services: addresses, endpoints, names. Pure.

use std::collections::BTreeMap;
use std::net::{Ipv4Addr, SocketAddr};

use k8s_openapi::api::core::v1::{Pod, Service, ServicePort};
use k8s_openapi::apimachinery::pkg::util::intstr::IntOrString;
use serde_json::{Value, json};

use super::dns::{CLUSTER_DOMAIN, Table};
use super::{HOST_NAMES, NODE_NAME};

/// A Pod as Services see it.
#[derive(Clone, Debug)]
pub struct Backend {
    /// The Pod as it runs.
    pub pod: std::sync::Arc<Pod>,
    /// Its address.
    pub ip: Ipv4Addr,
    /// Whether it may receive traffic.
    pub ready: bool,
    /// Whether it is being ended.
    pub terminating: bool,
}

/// The backends that `service` selects; none without a selector.
pub fn selected<'a>(
    service: &'a Service,
    backends: &'a [Backend],
) -> impl Iterator<Item = &'a Backend> {
    let selector = service
        .spec
        .as_ref()
        .and_then(|spec| spec.selector.as_ref());
    backends.iter().filter(move |backend| {
        let metadata = &backend.pod.metadata;
        selector.is_some_and(|selector| !selector.is_empty())
            && metadata.namespace == service.metadata.namespace
            && selector.iter().copied().flatten().all(|(name, value)| {
                metadata.labels.as_ref().and_then(|labels| labels.get(name)) == Some(value)
            })
    })
}

/// The number of the container port that `port` leads to in `pod`.
#[must_use]
pub fn target_port(port: &ServicePort, pod: &Pod) -> Option<u16> {
    let number = match &port.target_port {
        None => port.port,
        Some(IntOrString::Int(0)) => port.port,
        Some(IntOrString::Int(number)) => *number,
        Some(IntOrString::String(name)) => {
            let spec = pod.spec.as_ref()?;
            spec.init_containers
                .iter()
                .flatten()
                .chain(&spec.containers)
                .flat_map(|container| container.ports.iter().flatten())
                .find(|candidate| candidate.name.as_ref() == Some(name))?
                .container_port
        }
    };
    u16::try_from(number).ok()
}

fn is_headless(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        == Some("None")
}

fn publishes_unready(service: &Service) -> bool {
    service
        .spec
        .as_ref()
        .and_then(|spec| spec.publish_not_ready_addresses)
        == Some(true)
}

/// Where connections to `port` of the Service may go now.
#[must_use]
pub fn ready_addresses(
    service: &Service,
    port: &ServicePort,
    backends: &[Backend],
) -> Vec<SocketAddr> {
    selected(service, backends)
        .filter(|backend| backend.ready)
        .filter_map(|backend| {
            Some(SocketAddr::from((
                backend.ip,
                target_port(port, &backend.pod)?,
            )))
        })
        .collect()
}

/// The EndpointSlices of a Service: one for each set of port numbers that its Pods have.
#[must_use]
pub fn endpoint_slices(service: &Service, backends: &[Backend]) -> Vec<Value> {
    let (Some(spec), Some(name), Some(namespace)) = (
        &service.spec,
        &service.metadata.name,
        &service.metadata.namespace,
    ) else {
        return Vec::new();
    };
    if spec.selector.as_ref().is_none_or(BTreeMap::is_empty) {
        return Vec::new();
    }
    let mut groups: BTreeMap<Vec<Option<u16>>, Vec<&Backend>> = BTreeMap::new();
    let ports = spec.ports.as_deref().unwrap_or_default();
    for backend in selected(service, backends) {
        let numbers = ports
            .iter()
            .map(|port| target_port(port, &backend.pod))
            .collect();
        groups.entry(numbers).or_default().push(backend);
    }
    if groups.is_empty() {
        groups.insert(Vec::new(), Vec::new());
    }
    groups
        .into_iter()
        .enumerate()
        .map(|(index, (numbers, members))| {
            let ports: Vec<Value> = ports
                .iter()
                .zip(&numbers)
                .filter_map(|(port, number)| {
                    Some(json!({
                        "name": port.name.clone().unwrap_or_default(),
                        "port": (*number)?,
                        "protocol": port.protocol.as_deref().unwrap_or("TCP"),
                        "appProtocol": port.app_protocol,
                    }))
                })
                .collect();
            let mut labels = service.metadata.labels.clone().unwrap_or_default();
            labels.insert("kubernetes.io/service-name".to_owned(), name.clone());
            if is_headless(service) {
                labels.insert("service.kubernetes.io/headless".to_owned(), String::new());
            }
            json!({
                "apiVersion": "discovery.k8s.io/v1",
                "kind": "EndpointSlice",
                "metadata": {
                    "name": format!("{name}-{index}"), "namespace": namespace, "labels": labels,
                },
                "addressType": "IPv4",
                "ports": ports,
                "endpoints": members.iter().map(|member| endpoint(service, member)).collect::<Vec<_>>(),
            })
        })
        .collect()
}

fn endpoint(service: &Service, backend: &Backend) -> Value {
    let metadata = &backend.pod.metadata;
    let ready = publishes_unready(service) || (backend.ready && !backend.terminating);
    json!({
        "addresses": [backend.ip],
        "conditions": {
            "ready": ready,
            "serving": backend.ready || backend.terminating,
            "terminating": backend.terminating,
        },
        "nodeName": NODE_NAME,
        "targetRef": {
            "kind": "Pod", "name": metadata.name, "namespace": metadata.namespace, "uid": metadata.uid,
        },
    })
}

/// Adds the names of `service` to the table of the cluster DNS.
pub fn add_names(table: &mut Table, service: &Service, backends: &[Backend]) {
    let (Some(name), Some(namespace)) = (&service.metadata.name, &service.metadata.namespace)
    else {
        return;
    };
    let pods: Vec<Ipv4Addr> = selected(service, backends)
        .filter(|backend| backend.ready || publishes_unready(service))
        .map(|backend| backend.ip)
        .collect();
    let cluster_ip = service
        .spec
        .as_ref()
        .and_then(|spec| spec.cluster_ip.as_deref())
        .and_then(|text| text.parse().ok());
    let addresses = cluster_ip.map_or_else(|| pods.clone(), |ip| vec![ip]);
    table.insert(
        format!("{name}.{namespace}.svc.{CLUSTER_DOMAIN}"),
        addresses,
    );
    let outside = service
        .metadata
        .annotations
        .as_ref()
        .and_then(|all| all.get(HOST_NAMES));
    for host in outside.into_iter().flat_map(|hosts| hosts.split(',')) {
        table.insert(host.trim().to_ascii_lowercase(), pods.clone());
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn service(spec: Value) -> Service {
        serde_json::from_value(json!({
            "metadata": {"name": "web", "namespace": "shop",
                "annotations": {HOST_NAMES: "www.example.com"}},
            "spec": spec,
        }))
        .unwrap()
    }

    fn backend(last: u8, port: u16, ready: bool) -> Backend {
        let pod: Pod = serde_json::from_value(json!({
            "metadata": {"name": format!("web-{last}"), "namespace": "shop", "labels": {"app": "web"}},
            "spec": {"containers": [{"name": "c", "ports": [{"name": "http", "containerPort": port}]}]},
        }))
        .unwrap();
        Backend {
            pod: Arc::new(pod),
            ip: Ipv4Addr::new(10, 244, 0, last),
            ready,
            terminating: false,
        }
    }

    #[test]
    fn slices_are_cut_by_port_numbers_and_carry_readiness() {
        let service = service(json!({
            "selector": {"app": "web"},
            "ports": [{"name": "http", "port": 80, "targetPort": "http"}],
        }));
        let backends = [
            backend(5, 8080, true),
            backend(6, 8080, false),
            backend(7, 9090, true),
        ];
        let slices = endpoint_slices(&service, &backends);
        assert_eq!(slices.len(), 2);
        assert_eq!(slices[0]["ports"][0]["port"], 8080);
        assert_eq!(slices[0]["endpoints"][1]["conditions"]["ready"], false);
        assert_eq!(
            slices[1]["endpoints"][0]["addresses"],
            json!(["10.244.0.7"])
        );
        let port = &service.spec.as_ref().unwrap().ports.as_ref().unwrap()[0];
        assert_eq!(ready_addresses(&service, port, &backends).len(), 2);
    }

    #[test]
    fn a_service_without_pods_keeps_an_empty_slice() {
        let service = service(json!({"selector": {"app": "no"}, "ports": [{"port": 80}]}));
        assert_eq!(endpoint_slices(&service, &[])[0]["endpoints"], json!([]));
    }

    #[test]
    fn names_lead_to_the_cluster_address_or_to_ready_pods() {
        let backends = [backend(5, 8080, true), backend(6, 8080, false)];
        let mut table = Table::new();
        let spec = |ip: &str| json!({"clusterIP": ip, "selector": {"app": "web"}, "ports": []});
        add_names(&mut table, &service(spec("10.96.0.1")), &backends);
        assert_eq!(
            table["web.shop.svc.cluster.local"],
            [Ipv4Addr::new(10, 96, 0, 1)]
        );
        assert_eq!(table["www.example.com"], [Ipv4Addr::new(10, 244, 0, 5)]);
        add_names(&mut table, &service(spec("None")), &backends);
        assert_eq!(
            table["web.shop.svc.cluster.local"],
            [Ipv4Addr::new(10, 244, 0, 5)]
        );
    }
}
