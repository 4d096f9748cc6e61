//! Converts ServiceEntries, written by users or generated from Kubernetes Services, to services
//! and endpoints.

use std::{collections::BTreeMap, sync::Arc};

use istio_api::{
    networking::v1alpha3::{
        self as api,
        service_entry::{Location, Resolution as ApiResolution},
    },
    synthetic::{self, Facts},
};

use crate::{
    config::{Config, ConfigRef, Visibility},
    hashed::hash_of,
    host::Host,
    mesh::Mesh,
    protocol::Protocol,
    service::{Endpoint, Health, Locality, Registry, Resolution, Service, ServiceKey, ServicePort},
};

/// Label of a workload that accepts mutual TLS.
const TLS_MODE: &str = "security.istio.io/tlsMode";

/// One service that an entry declares.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declared {
    /// The service, without its endpoints.
    pub service: Service,
    /// Its endpoints.
    pub endpoints: Vec<Endpoint>,
}

/// The services of one entry, one per host. `synthetic` marks entries that represent Kubernetes
/// Services.
///
/// # Errors
/// If an annotation of a synthetic entry does not have galley's format.
pub fn convert(
    config: &Config<api::ServiceEntry>,
    synthetic: bool,
    mesh: &Mesh,
) -> Result<Vec<Declared>, String> {
    let spec = &config.spec;
    let facts = if synthetic {
        Facts::read(&config.annotations, spec)?
    } else {
        Facts::default()
    };
    let namespace = &config.reference.namespace;
    let resolution = match spec.resolution() {
        ApiResolution::None => Resolution::Passthrough,
        ApiResolution::Static => Resolution::ClientSideLb,
        ApiResolution::Dns => Resolution::DnsLb,
        ApiResolution::DnsRoundRobin | ApiResolution::DynamicDns => Resolution::DnsRoundRobinLb,
    };
    let ports: Vec<ServicePort> = spec
        .ports
        .iter()
        .map(|port| ServicePort {
            name: port.name.as_str().into(),
            number: port.number,
            protocol: Protocol::parse(&port.protocol),
            target_port: port.target_port,
        })
        .collect();
    let headless = synthetic && resolution == Resolution::Passthrough;
    let services = spec
        .hosts
        .iter()
        .map(|host| {
            let host = Host::new(host);
            let mut service = Service {
                key: ServiceKey {
                    host: host.clone(),
                    namespace: namespace.clone(),
                },
                name: if synthetic {
                    config.reference.name.clone()
                } else {
                    host.to_arc()
                },
                registry: if synthetic {
                    Registry::Kubernetes
                } else {
                    Registry::External
                },
                addresses: addresses(&spec.addresses),
                ports: ports.clone(),
                resolution,
                headless,
                mesh_external: spec.location() == Location::MeshExternal,
                created: config.created,
                export_to: Visibility::parse(&spec.export_to, namespace, &mesh.service_export_to),
                labels: config.labels.clone(),
                selector: spec
                    .workload_selector
                    .as_ref()
                    .map(|selector| selector.labels.clone())
                    .unwrap_or_default(),
                subject_alt_names: spec
                    .subject_alt_names
                    .iter()
                    .map(|name| name.as_str().into())
                    .collect(),
                external_name: facts.external_name.as_deref().map(Host::new),
                node_local: facts.node_local,
                publish_not_ready: facts.publish_not_ready,
                sources: Arc::default(),
            };
            service.sources = [source(&service, config, synthetic)].into();
            let endpoints = if synthetic {
                synthetic_endpoints(config, &ports, &facts, mesh)
            } else {
                endpoints(config, &host, &ports, resolution, mesh)
            };
            Declared { service, endpoints }
        })
        .collect();
    Ok(services)
}

/// Refers to the object that declares a service. The version of a synthetic entry changes with
/// every endpoint, so the reference has the version of the service's definition instead.
fn source(service: &Service, config: &Config<api::ServiceEntry>, synthetic: bool) -> ConfigRef {
    let mut source = config.reference.clone();
    if synthetic {
        source.version = format!("{:032x}", hash_of(service)).into();
    }
    source
}

/// Virtual IPs: addresses and CIDR ranges. A range of one address is that address; `0.0.0.0` is
/// left out.
fn addresses(declared: &[String]) -> Vec<Arc<str>> {
    declared
        .iter()
        .filter_map(|text| {
            if let Ok(ip) = text.parse::<std::net::IpAddr>() {
                return (!ip.is_unspecified()).then(|| ip.to_string().into());
            }
            let range: ipnet::IpNet = text.parse().ok()?;
            Some(if range.prefix_len() == range.max_prefix_len() {
                range.addr().to_string().into()
            } else {
                range.trunc().to_string().into()
            })
        })
        .collect()
}

/// Endpoints of an entry written by a user.
fn endpoints(
    config: &Config<api::ServiceEntry>,
    host: &Host,
    ports: &[ServicePort],
    resolution: Resolution,
    mesh: &Mesh,
) -> Vec<Endpoint> {
    let spec = &config.spec;
    let resolved_by_proxies = matches!(resolution, Resolution::DnsLb | Resolution::DnsRoundRobinLb);
    if spec.endpoints.is_empty() && spec.workload_selector.is_none() && resolved_by_proxies {
        // The host itself is the only endpoint.
        return ports
            .iter()
            .map(|port| Endpoint {
                address: host.to_arc(),
                port: if port.target_port > 0 {
                    port.target_port
                } else {
                    port.number
                },
                port_name: port.name.clone(),
                ..blank(&config.reference.namespace)
            })
            .collect();
    }
    let mut list = Vec::with_capacity(spec.endpoints.len() * ports.len());
    for entry in &spec.endpoints {
        let base = workload(entry, config, mesh);
        let mtls = entry
            .labels
            .get(TLS_MODE)
            .map_or(!base.service_account.is_empty(), |mode| mode == "istio");
        for port in ports {
            list.push(Endpoint {
                port: written_port(entry, port),
                port_name: port.name.clone(),
                mtls,
                ..base.clone()
            });
        }
    }
    list
}

/// Endpoints of a Kubernetes Service, including those that receive no traffic: their proxies must
/// still find the services that they implement.
fn synthetic_endpoints(
    config: &Config<api::ServiceEntry>,
    ports: &[ServicePort],
    facts: &Facts,
    mesh: &Mesh,
) -> Vec<Endpoint> {
    let ready = config
        .spec
        .endpoints
        .iter()
        .map(|entry| (entry, Health::Healthy));
    let not_ready = facts.not_ready.iter().map(|row| {
        let health = match row.health {
            synthetic::Health::Unhealthy => Health::Unhealthy,
            synthetic::Health::Draining => Health::Draining,
            synthetic::Health::Terminating => Health::Terminating,
        };
        (&row.entry, health)
    });
    let mut list = Vec::new();
    for (entry, health) in ready.chain(not_ready) {
        let base = workload(entry, config, mesh);
        let mtls = entry
            .labels
            .get(TLS_MODE)
            .is_some_and(|mode| mode == "istio");
        for port in ports {
            // An endpoint without the port does not serve it.
            if let Some(number) = entry.ports.get(&*port.name) {
                list.push(Endpoint {
                    port: *number,
                    port_name: port.name.clone(),
                    mtls,
                    health,
                    ..base.clone()
                });
            }
        }
    }
    list
}

/// The properties of an endpoint that do not depend on the port.
fn workload(
    entry: &api::WorkloadEntry,
    config: &Config<api::ServiceEntry>,
    mesh: &Mesh,
) -> Endpoint {
    Endpoint {
        address: entry.address.as_str().into(),
        labels: Arc::new(entry.labels.clone()),
        service_account: service_account(entry, config, mesh).into(),
        network: entry.network.as_str().into(),
        locality: Locality::parse(&entry.locality),
        weight: entry.weight.max(1),
        workload: workload_name(&entry.labels),
        node: entry
            .labels
            .get(synthetic::NODE_NAME)
            .map_or("", String::as_str)
            .into(),
        ..blank(&config.reference.namespace)
    }
}

/// The port of an endpoint of an entry written by a user.
fn written_port(entry: &api::WorkloadEntry, port: &ServicePort) -> u32 {
    if entry.address.starts_with("unix://") {
        return 0;
    }
    match entry.ports.get(&*port.name) {
        Some(number) => *number,
        None if port.target_port > 0 => port.target_port,
        None => port.number,
    }
}

/// A SPIFFE ID; a bare name is an account in the namespace of the entry.
fn service_account(
    entry: &api::WorkloadEntry,
    config: &Config<api::ServiceEntry>,
    mesh: &Mesh,
) -> String {
    match entry.service_account.as_str() {
        "" => String::new(),
        id if id.starts_with("spiffe://") => id.to_owned(),
        name => format!(
            "spiffe://{}/ns/{}/sa/{name}",
            mesh.trust_domain,
            config.namespace()
        ),
    }
}

/// Name of the Deployment, if it can be derived from the labels.
fn workload_name(labels: &BTreeMap<String, String>) -> Arc<str> {
    let keys = [
        synthetic::WORKLOAD_NAME,
        "service.istio.io/workload-name",
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ];
    keys.iter()
        .find_map(|key| labels.get(*key))
        .map_or_else(|| "".into(), |name| name.as_str().into())
}

fn blank(namespace: &Arc<str>) -> Endpoint {
    let empty: Arc<str> = "".into();
    Endpoint {
        address: empty.clone(),
        port: 0,
        port_name: empty.clone(),
        labels: Arc::default(),
        service_account: empty.clone(),
        network: empty.clone(),
        locality: Locality::default(),
        cluster_id: empty.clone(),
        weight: 1,
        mtls: false,
        health: Health::Healthy,
        workload: empty.clone(),
        node: empty,
        namespace: namespace.clone(),
    }
}
