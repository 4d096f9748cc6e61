//! Services and their endpoints, from any registry.

use std::sync::Arc;

use crate::{
    config::{ConfigRef, Created, Labels, Visibility},
    host::Host,
    lookup::Lookup,
    protocol::Protocol,
};

/// Identifies a service: a host may be declared in several namespaces.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ServiceKey {
    /// Host name of the service.
    pub host: Host,
    /// Namespace that declares it.
    pub namespace: Arc<str>,
}

/// Where a service was declared.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Registry {
    /// A Kubernetes Service; it takes precedence over other declarations of its host.
    Kubernetes,
    /// A ServiceEntry.
    External,
}

/// A port of a service that a workload implements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    /// The service.
    pub service: ServiceKey,
    /// Name of the service port.
    pub port_name: Arc<str>,
    /// Port at the workload.
    pub port: u32,
}

/// How clients find the endpoints.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Resolution {
    /// Endpoints are known and sent over EDS.
    ClientSideLb,
    /// Names resolved by each proxy, all addresses used (STRICT_DNS).
    DnsLb,
    /// Names resolved by each proxy, one address used per connection (LOGICAL_DNS).
    DnsRoundRobinLb,
    /// The address that the application dialled (ORIGINAL_DST).
    Passthrough,
    /// An alias of a known service (Kubernetes ExternalName).
    Alias,
}

/// A port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ServicePort {
    /// Name of the port.
    pub name: Arc<str>,
    /// Port number, 1–65535.
    pub number: u32,
    /// Protocol of the port.
    pub protocol: Protocol,
    /// Port of the endpoints if all use the same; 0 if it differs or is unknown.
    pub target_port: u32,
}

/// A service as proxies see it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Service {
    /// Host and namespace.
    pub key: ServiceKey,
    /// Short name (`reviews`); for ServiceEntries the host.
    pub name: Arc<str>,
    /// Where it was declared.
    pub registry: Registry,
    /// Virtual IPs: addresses or CIDR ranges; may be empty.
    pub addresses: Vec<Arc<str>>,
    /// Ports, in the order of their declaration.
    pub ports: Vec<ServicePort>,
    /// How clients find the endpoints.
    pub resolution: Resolution,
    /// Kubernetes Service without a ClusterIP.
    pub headless: bool,
    /// Whether it is outside the mesh (`location: MESH_EXTERNAL`).
    pub mesh_external: bool,
    /// When it was created; decides conflicts.
    pub created: Created,
    /// Namespaces that may see it (`exportTo`).
    pub export_to: Visibility,
    /// Labels (`metadata.labels`).
    pub labels: Labels,
    /// Labels of the Pods that the service selects in its namespace; empty selects none.
    pub selector: Labels,
    /// SPIFFE IDs or names that servers may present in addition to those of the endpoints.
    pub subject_alt_names: Vec<Arc<str>>,
    /// Target of an ExternalName service.
    pub external_name: Option<Host>,
    /// `internalTrafficPolicy: Local`.
    pub node_local: bool,
    /// Endpoints are used before they are ready (`publishNotReadyAddresses`).
    pub publish_not_ready: bool,
    /// The objects that declared it, oldest first.
    pub sources: Arc<[ConfigRef]>,
}

impl Service {
    /// Host name.
    pub fn host(&self) -> &Host {
        &self.key.host
    }

    /// Namespace that declares it.
    pub fn namespace(&self) -> &str {
        &self.key.namespace
    }

    /// The properties of clients that its endpoints depend on.
    pub(crate) fn lookup(&self) -> Lookup {
        Lookup {
            node: self.node_local,
            ..Lookup::default()
        }
    }

    /// The port with this number.
    pub fn port(&self, number: u32) -> Option<&ServicePort> {
        self.ports.iter().find(|port| port.number == number)
    }

    /// The order of all output: oldest first, then by name and namespace.
    pub fn by_age(&self, other: &Self) -> std::cmp::Ordering {
        self.created
            .cmp(&other.created)
            .then_with(|| self.key.host.cmp(&other.key.host))
            .then_with(|| self.key.namespace.cmp(&other.key.namespace))
    }
}

/// Whether an endpoint receives traffic.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Health {
    /// It receives traffic.
    Healthy,
    /// Its readiness check fails.
    Unhealthy,
    /// It is terminating and still serves.
    Draining,
    /// It is terminating.
    Terminating,
}

/// Region, zone and sub-zone; each may be empty.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Locality {
    /// Largest part (`topology.kubernetes.io/region`).
    pub region: Arc<str>,
    /// Part of the region (`topology.kubernetes.io/zone`).
    pub zone: Arc<str>,
    /// Part of the zone (`topology.istio.io/subzone`).
    pub subzone: Arc<str>,
}

impl Locality {
    /// Parses `region/zone/subzone`; missing parts are empty.
    pub fn parse(text: &str) -> Self {
        let mut parts = text.splitn(3, '/').map(Arc::from);
        Self {
            region: parts.next().unwrap_or_default(),
            zone: parts.next().unwrap_or_default(),
            subzone: parts.next().unwrap_or_default(),
        }
    }
}

/// One address and port that serves a port of a service.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Endpoint {
    /// IP, DNS name, or `unix://` path.
    pub address: Arc<str>,
    /// Port number; 0 for a Unix socket.
    pub port: u32,
    /// Name of the service port that it serves.
    pub port_name: Arc<str>,
    /// Labels of the workload.
    pub labels: Arc<Labels>,
    /// SPIFFE ID; empty if the workload has none.
    pub service_account: Arc<str>,
    /// Network of the workload; empty = the client's.
    pub network: Arc<str>,
    /// Where it runs.
    pub locality: Locality,
    /// Kubernetes cluster of the workload; empty = the client's.
    pub cluster_id: Arc<str>,
    /// Load balancing weight, at least 1.
    pub weight: u32,
    /// Whether the workload accepts mutual TLS.
    pub mtls: bool,
    /// Whether it receives traffic.
    pub health: Health,
    /// Name of the Deployment or other owner; empty when unknown.
    pub workload: Arc<str>,
    /// Name of the Kubernetes node; empty when unknown.
    pub node: Arc<str>,
    /// Namespace of the workload.
    pub namespace: Arc<str>,
}

/// All endpoints of one service, in a stable order.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Endpoints {
    /// Sorted by port name, address and port.
    pub list: Vec<Endpoint>,
}

impl Endpoints {
    /// The distinct SPIFFE IDs of the endpoints, sorted.
    pub fn service_accounts(&self) -> Vec<Arc<str>> {
        let mut ids: Vec<Arc<str>> = self
            .list
            .iter()
            .filter(|endpoint| !endpoint.service_account.is_empty())
            .map(|endpoint| endpoint.service_account.clone())
            .collect();
        ids.sort();
        ids.dedup();
        ids
    }
}
