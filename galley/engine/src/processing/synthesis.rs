//! A Service with its endpoints as a ServiceEntry: pure. The table at [`istio_api::synthetic`] maps
//! the fields.

use std::collections::BTreeMap;
use std::sync::Arc;

use istio_api::collections::SYNTHETIC_SERVICE_ENTRIES;
use istio_api::mcp::v1alpha1::Metadata;
use istio_api::networking::v1alpha3::{ServiceEntry, ServicePort, WorkloadEntry, service_entry};
use istio_api::synthetic::{Facts, Health, NODE_NAME, NotReady, WORKLOAD_NAME};
use prost::Message;

use super::protocol;
use crate::native::{
    Condition, EndpointAddress, EndpointGroup, EndpointPort, Pod, Service, Target,
};
use crate::object::Config;

const EXPORT_TO: &str = "networking.istio.io/exportTo";
const TRAFFIC_DISTRIBUTION: &str = "networking.istio.io/traffic-distribution";
const SERVICE_ACCOUNTS: &str = "alpha.istio.io/kubernetes-serviceaccounts";
const CANONICAL_ACCOUNTS: &str = "alpha.istio.io/canonical-serviceaccounts";
const NETWORK: &str = "topology.istio.io/network";
const LOCALITY: &str = "topology.istio.io/locality";
const OLD_LOCALITY: &str = "istio-locality";

/// Names that depend on the mesh.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Names {
    /// DNS suffix, such as `cluster.local`.
    pub domain: String,
    /// Trust domain of identities.
    pub trust_domain: String,
}

impl Names {
    /// Host name of a service.
    pub fn host(&self, namespace: &str, name: &str) -> String {
        format!("{name}.{namespace}.svc.{}", self.domain)
    }
}

/// The Pod of an endpoint, and what is derived from it.
#[derive(Debug, Clone)]
pub struct Workload {
    /// The Pod.
    pub pod: Arc<Pod>,
    /// Locality of its node, empty if not known.
    pub node_locality: String,
}

/// Finds the workload of an endpoint: `Err(())` if the endpoint names an unknown Pod, so that it is
/// withheld; `Ok(None)` if it has no workload.
pub trait Workloads {
    /// See above.
    #[expect(clippy::result_unit_err, reason = "the error only means: not yet")]
    fn of(&self, endpoint: &EndpointAddress, address: &str) -> Result<Option<Workload>, ()>;
}

/// A synthetic resource.
#[derive(Debug, Clone)]
pub struct Synthetic {
    /// Encoded, ready to be sent.
    pub config: Config,
    /// Number of endpoints withheld because their Pod is not known (yet).
    pub withheld: usize,
}

/// Makes the resource of a Service.
pub fn synthesise<'a>(
    service: &Service,
    groups: impl Iterator<Item = &'a EndpointGroup>,
    workloads: &impl Workloads,
    names: &Names,
) -> Result<Synthetic, serde_json::Error> {
    let meta = &service.metadata;
    let annotation = |name: &str| meta.annotations.get(name).map(String::as_str);
    let mut facts = Facts {
        selector: service.selector.clone(),
        external_name: service.external_name.clone(),
        node_local: service.node_local,
        publish_not_ready: service.publish_not_ready,
        ..Facts::default()
    };
    let mut entry = ServiceEntry {
        hosts: vec![names.host(&meta.namespace, &meta.name)],
        export_to: words(annotation(EXPORT_TO)),
        subject_alt_names: identities(service, names),
        ..ServiceEntry::default()
    };
    for port in &service.ports {
        let target_port = match &port.target {
            Target::Number(number) => u32::from(*number),
            Target::Name(name) => {
                facts.target_ports.insert(port.name.clone(), name.clone());
                0
            }
        };
        entry.ports.push(ServicePort {
            number: port.number.into(),
            protocol: protocol::of(port).to_owned(),
            name: port.name.clone(),
            target_port,
        });
    }
    let mut withheld = 0;
    let (resolution, location) = if let Some(name) = &service.external_name {
        entry.endpoints = vec![WorkloadEntry {
            address: name.clone(),
            // Kubernetes has no target port here: the port of the target is the service port.
            ports: service
                .ports
                .iter()
                .map(|port| (port.name.clone(), port.number.into()))
                .collect(),
            ..Default::default()
        }];
        (
            service_entry::Resolution::Dns,
            service_entry::Location::MeshExternal,
        )
    } else {
        entry.addresses.clone_from(&service.cluster_ips);
        if entry.addresses.is_empty() {
            entry.addresses.push("0.0.0.0".to_owned());
        }
        let mut endpoints = Endpoints::default();
        for group in groups {
            endpoints.add(group, workloads);
        }
        withheld = endpoints.withheld;
        (entry.endpoints, facts.not_ready) = endpoints.finish();
        let resolution = if service.headless {
            service_entry::Resolution::None
        } else {
            service_entry::Resolution::Static
        };
        (resolution, service_entry::Location::MeshInternal)
    };
    entry.resolution = resolution.into();
    entry.location = location.into();

    let mut metadata = Metadata {
        name: format!("{}/{}", meta.namespace, meta.name),
        create_time: meta.created,
        version: String::new(),
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
    };
    if !service.traffic_distribution.is_empty() {
        let slot = metadata.annotations.entry(TRAFFIC_DISTRIBUTION.to_owned());
        slot.or_insert_with(|| service.traffic_distribution.clone());
    }
    facts.write(&mut metadata, &mut entry)?;
    let config = Config::new(&SYNTHETIC_SERVICE_ENTRIES, metadata, entry.encode_to_vec());
    Ok(Synthetic { config, withheld })
}

/// A comma-separated list: trimmed, sorted, without duplicates.
fn words(list: Option<&str>) -> Vec<String> {
    let words = list
        .unwrap_or_default()
        .split(',')
        .map(str::trim)
        .filter(|word| !word.is_empty());
    let mut words: Vec<_> = words.map(str::to_owned).collect();
    words.sort();
    words.dedup();
    words
}

fn identities(service: &Service, names: &Names) -> Vec<String> {
    let annotation = |name: &str| service.metadata.annotations.get(name).map(String::as_str);
    let mut identities = words(annotation(CANONICAL_ACCOUNTS));
    for account in words(annotation(SERVICE_ACCOUNTS)) {
        let (domain, namespace) = (&names.trust_domain, &service.metadata.namespace);
        identities.push(format!("spiffe://{domain}/ns/{namespace}/sa/{account}"));
    }
    identities.sort();
    identities.dedup();
    identities
}

/// Endpoints by address, with the ports of all groups merged.
#[derive(Debug, Default)]
struct Endpoints {
    found: BTreeMap<(String, usize), (WorkloadEntry, Condition)>,
    withheld: usize,
}

impl Endpoints {
    fn add(&mut self, group: &EndpointGroup, workloads: &impl Workloads) {
        for endpoint in &group.endpoints {
            for address in &endpoint.addresses {
                match workloads.of(endpoint, address) {
                    Ok(workload) => self.place(endpoint, address, workload, &group.ports),
                    Err(()) => self.withheld += 1,
                }
            }
        }
    }

    fn place(
        &mut self,
        endpoint: &EndpointAddress,
        address: &str,
        workload: Option<Workload>,
        ports: &[EndpointPort],
    ) {
        // Several entries per address only if needed: when a port name has several numbers.
        for copy in 0.. {
            let slot = (address.to_owned(), copy);
            let (entry, condition) = self.found.entry(slot).or_insert_with(|| {
                (
                    workload_entry(endpoint, address, &workload),
                    endpoint.condition,
                )
            });
            let conflict = |port: &EndpointPort| {
                entry
                    .ports
                    .get(&port.name)
                    .is_some_and(|known| *known != u32::from(port.number))
            };
            if ports.iter().any(conflict) || *condition != endpoint.condition {
                continue;
            }
            entry
                .ports
                .extend(ports.iter().map(|p| (p.name.clone(), u32::from(p.number))));
            return;
        }
    }

    fn finish(self) -> (Vec<WorkloadEntry>, Vec<NotReady>) {
        let (mut ready, mut not_ready) = (Vec::new(), Vec::new());
        for (entry, condition) in self.found.into_values() {
            let health = match condition {
                Condition::Ready => {
                    ready.push(entry);
                    continue;
                }
                Condition::NotReady => Health::Unhealthy,
                Condition::Draining => Health::Draining,
                Condition::Terminating => Health::Terminating,
            };
            not_ready.push(NotReady { entry, health });
        }
        (ready, not_ready)
    }
}

fn workload_entry(
    endpoint: &EndpointAddress,
    address: &str,
    workload: &Option<Workload>,
) -> WorkloadEntry {
    let mut entry = WorkloadEntry {
        address: address.to_owned(),
        ..Default::default()
    };
    let mut node = endpoint.node.clone().unwrap_or_default();
    if let Some(Workload { pod, node_locality }) = workload {
        entry.labels.clone_from(&pod.labels);
        entry.network = pod.labels.get(NETWORK).cloned().unwrap_or_default();
        entry.locality = locality(&pod.labels).unwrap_or_else(|| node_locality.clone());
        entry.service_account.clone_from(&pod.service_account);
        entry
            .labels
            .insert(WORKLOAD_NAME.to_owned(), pod.workload.clone());
        if !pod.node.is_empty() {
            node = pod.node.clone();
        }
    }
    if !node.is_empty() {
        entry
            .labels
            .entry(NODE_NAME.to_owned())
            .or_insert_with(|| node.to_string());
    }
    entry
}

/// Locality from the Pod's own label. Label values cannot contain slashes, so dots stand for them.
fn locality(labels: &BTreeMap<String, String>) -> Option<String> {
    let value = labels.get(LOCALITY).or_else(|| labels.get(OLD_LOCALITY))?;
    let value = if value.contains('/') {
        value.clone()
    } else {
        value.replace('.', "/")
    };
    (!value.is_empty()).then_some(value)
}
