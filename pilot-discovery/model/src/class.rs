//! Proxies that must receive the same resources share a class; generators read the class, never a
//! proxy.

use crate::hashed::Hashed;
use std::sync::Arc;

use istio_api::networking::v1alpha3 as api;

use crate::{
    authn::WorkloadMtls,
    config::{Config, Labels},
    credential::{Account, SecretAccess},
    destination_rule::Rule,
    host::Host,
    proxy::{Interception, IpMode, Proxy, ProxyType},
    scope::Scope,
    service::{Endpoints, Locality, Service, ServicePort, Target},
    snapshot::Snapshot,
    virtual_service::VirtualService,
};

/// All properties that outbound resources may depend on, in addition to the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboundClass {
    /// Sidecar or gateway.
    pub kind: ProxyType,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The Sidecar that applies to it as a client, as `namespace/name`.
    pub sidecar: Option<Arc<str>>,
    /// `<namespace>.svc.<suffix>`.
    pub dns_domain: Arc<str>,
    /// Address families that it can use.
    pub ip_mode: IpMode,
    /// How traffic is captured (`INTERCEPTION_MODE`).
    pub interception: Interception,
    /// Kubernetes cluster of the proxy (`CLUSTER_ID`); empty when it names none.
    pub cluster_id: Arc<str>,
    /// Network of the proxy (`NETWORK`); empty when it names none.
    pub network: Arc<str>,
    /// Set only while endpoints are ordered by locality.
    pub locality: Locality,
    /// Set only while some service is node-local.
    pub node_name: Arc<str>,
    /// Only the labels by which configuration distinguishes clients.
    pub labels: Arc<Labels>,
    /// Service ports that a gateway implements, sorted; empty for sidecars.
    pub targets: Arc<[Target]>,
    /// Which Secrets of the cluster it may receive; none for sidecars.
    pub secret_access: SecretAccess,
    /// Cannot bind ports below 1024 (`UNPRIVILEGED_POD`).
    pub unprivileged: bool,
    /// Accepts HTTP/1.0 (`HTTP10`).
    pub http10: bool,
    /// Port of readiness checks, reserved on the proxy.
    pub status_port: u32,
    /// Port of Envoy's statistics, reserved on the proxy.
    pub prometheus_port: u32,
}

/// All properties that inbound resources may depend on, in addition to the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundClass {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// The Sidecar that applies to it, as `namespace/name`.
    pub sidecar: Option<Arc<str>>,
    /// Address families that it can use.
    pub ip_mode: IpMode,
    /// How traffic is captured (`INTERCEPTION_MODE`).
    pub interception: Interception,
    /// Service ports that it implements, sorted.
    pub targets: Arc<[Target]>,
    /// Only the labels by which some policy or rule selects serving workloads.
    pub labels: Arc<Labels>,
    /// First address; set only if a Sidecar ingress listener needs it.
    pub address: Arc<str>,
    /// Accepts HTTP/1.0 (`HTTP10`).
    pub http10: bool,
    /// Port of readiness checks, reserved on the proxy.
    pub status_port: u32,
    /// Port of Envoy's statistics, reserved on the proxy.
    pub prometheus_port: u32,
}

/// A client's view of a snapshot: the input of outbound generators.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    /// The state of the mesh.
    pub snapshot: &'a Snapshot,
    /// The class of the client.
    pub class: &'a OutboundClass,
    /// The services that the class sees.
    pub scope: &'a Scope,
}

impl<'a> Client<'a> {
    /// The service of `host`, as this class sees it.
    pub fn service(&self, host: &Host) -> Option<&'a Arc<Hashed<Service>>> {
        self.scope.services.get(host)
    }

    /// The VirtualService that applies to `host` for this class.
    pub fn virtual_service(&self, host: &Host) -> Option<&'a Arc<Hashed<VirtualService>>> {
        self.scope.virtual_service(self.snapshot, host)
    }

    /// The DestinationRule that applies to `service` for this class; `None` if no rule covers it.
    pub fn destination_rule(&self, service: &Service) -> Option<&'a Arc<Hashed<Rule>>> {
        self.snapshot.destination_rules.for_service(
            &self.class.namespace,
            &self.class.labels,
            service,
            &self.snapshot.mesh.root_namespace,
        )
    }

    /// Endpoints of `service`; `None` if it has none.
    pub fn endpoints(&self, service: &Service) -> Option<&'a Arc<Hashed<Endpoints>>> {
        self.snapshot.endpoints.get(&service.key)
    }
}

/// A service port that a workload implements, with the service.
#[derive(Clone, Debug)]
pub struct ServiceTarget<'a> {
    /// The service.
    pub service: &'a Arc<Hashed<Service>>,
    /// The port of the service.
    pub service_port: &'a ServicePort,
    /// Port at the workload.
    pub port: u32,
}

/// A workload's view of a snapshot: the input of inbound generators.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    /// The state of the mesh.
    pub snapshot: &'a Snapshot,
    /// The class of the workload.
    pub class: &'a InboundClass,
    /// The Sidecar that applies to it, if any.
    pub sidecar: Option<&'a Arc<Config<api::Sidecar>>>,
}

impl<'a> Server<'a> {
    /// The service ports that this workload implements, oldest service first, then by port.
    pub fn targets(&self) -> Vec<ServiceTarget<'a>> {
        let mut targets: Vec<ServiceTarget<'a>> = self
            .class
            .targets
            .iter()
            .filter_map(|target| {
                let service = self.snapshot.service(&target.service)?;
                let service_port = service
                    .ports
                    .iter()
                    .find(|port| port.name == target.port_name)?;
                Some(ServiceTarget {
                    service,
                    service_port,
                    port: target.port,
                })
            })
            .collect();
        targets.sort_by(|a, b| {
            a.service
                .by_age(b.service)
                .then_with(|| a.service_port.number.cmp(&b.service_port.number))
                .then_with(|| a.port.cmp(&b.port))
        });
        targets
    }

    /// Mutual TLS modes of the workload's ports.
    pub fn mtls(&self) -> WorkloadMtls {
        self.snapshot.peer_authentications.for_workload(
            &self.class.namespace,
            &self.class.labels,
            &self.snapshot.mesh.root_namespace,
        )
    }
}

/// Classes of one proxy under a snapshot.
pub fn classify(snapshot: &Snapshot, proxy: &Proxy) -> (OutboundClass, Option<InboundClass>) {
    let lookup = &*snapshot.lookup;
    let is_gateway = proxy.kind == ProxyType::Router;
    let sidecar = match proxy.kind {
        ProxyType::Sidecar => snapshot.sidecar_for(&proxy.namespace, &proxy.labels),
        ProxyType::Router => None,
    };
    let outbound = OutboundClass {
        kind: proxy.kind,
        namespace: proxy.namespace.clone(),
        sidecar: sidecar.filter(|s| rules_clients(&s.spec)).map(sidecar_name),
        dns_domain: proxy.dns_domain.clone(),
        ip_mode: proxy.ip_mode,
        interception: proxy.interception,
        cluster_id: proxy.cluster_id.clone(),
        network: proxy.network.clone(),
        locality: if lookup.locality {
            proxy.locality.clone()
        } else {
            Locality::default()
        },
        node_name: if lookup.node {
            proxy.node_name.clone()
        } else {
            "".into()
        },
        labels: labels(proxy, |key| {
            lookup.clients.contains(key) || is_gateway && lookup.gateways.contains(key)
        }),
        targets: match proxy.kind {
            ProxyType::Sidecar => Arc::default(),
            ProxyType::Router => snapshot.targets(&proxy.ips, &proxy.namespace),
        },
        secret_access: match proxy.kind {
            ProxyType::Sidecar => SecretAccess::NoCluster,
            ProxyType::Router => snapshot.cluster_secrets.access(account(proxy)),
        },
        unprivileged: proxy.unprivileged,
        http10: proxy.http10,
        status_port: proxy.status_port,
        prometheus_port: proxy.prometheus_port,
    };
    let inbound = (proxy.kind == ProxyType::Sidecar).then(|| InboundClass {
        namespace: proxy.namespace.clone(),
        sidecar: sidecar.map(sidecar_name),
        ip_mode: proxy.ip_mode,
        interception: proxy.interception,
        targets: snapshot.targets(&proxy.ips, &proxy.namespace),
        labels: labels(proxy, |key| lookup.workloads.contains(key)),
        address: match (sidecar, proxy.ips.first()) {
            (Some(_), Some(ip)) => ip.to_string().into(),
            _ => "".into(),
        },
        http10: proxy.http10,
        status_port: proxy.status_port,
        prometheus_port: proxy.prometheus_port,
    });
    (outbound, inbound)
}

/// The labels of a proxy that configuration uses.
fn labels(proxy: &Proxy, is_looked_at: impl Fn(&str) -> bool) -> Arc<Labels> {
    let labels = proxy.labels.iter().filter(|(key, _)| is_looked_at(key));
    let labels = labels.map(|(key, value)| (key.clone(), value.clone()));
    Arc::new(labels.collect())
}

fn sidecar_name(sidecar: &Arc<Config<api::Sidecar>>) -> Arc<str> {
    format!("{}/{}", sidecar.namespace(), sidecar.name()).into()
}

/// Whether a Sidecar restricts what its workloads see as clients.
fn rules_clients(sidecar: &api::Sidecar) -> bool {
    !sidecar.egress.is_empty() || sidecar.outbound_traffic_policy.is_some()
}

/// The verified account of a proxy, if it is in the proxy's namespace.
fn account(proxy: &Proxy) -> Option<&Account> {
    let account = proxy.verified.as_ref();
    account.filter(|account| account.namespace == proxy.namespace)
}
