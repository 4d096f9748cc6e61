//! Proxies that must receive the same resources share a class; generators read the class and
//! never a proxy.

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
    service::{Endpoints, Locality, Service, ServiceKey, ServicePort},
    snapshot::Snapshot,
    virtual_service::VirtualService,
};

/// Everything that outbound resources may depend on, besides the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct OutboundClass {
    pub kind: ProxyType,
    pub namespace: Arc<str>,
    /// Name of the Sidecar that rules it, as `namespace/name`.
    pub sidecar: Option<Arc<str>>,
    /// `<namespace>.svc.<suffix>`.
    pub dns_domain: Arc<str>,
    pub ip_mode: IpMode,
    pub interception: Interception,
    pub cluster_id: Arc<str>,
    pub network: Arc<str>,
    pub locality: Locality,
    /// Set only while some service is node-local.
    pub node_name: Arc<str>,
    /// Only the labels that some configuration object selects clients by.
    pub labels: Arc<Labels>,
    /// Service ports that a gateway implements, sorted; empty for sidecars.
    pub targets: Arc<[Target]>,
    /// What it may be sent of the Secrets of the cluster; nothing for sidecars.
    pub secret_access: SecretAccess,
    pub unprivileged: bool,
    pub http10: bool,
    pub status_port: u32,
    pub prometheus_port: u32,
}

/// A port of a service that a workload implements.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Target {
    pub service: ServiceKey,
    /// Name of the service port.
    pub port_name: Arc<str>,
    /// Port at the workload.
    pub port: u32,
}

/// Everything that inbound resources may depend on, besides the snapshot.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct InboundClass {
    pub namespace: Arc<str>,
    pub sidecar: Option<Arc<str>>,
    pub ip_mode: IpMode,
    pub interception: Interception,
    /// Sorted.
    pub targets: Arc<[Target]>,
    /// Only the labels that some policy selects workloads by.
    pub labels: Arc<Labels>,
    /// First address, only when a Sidecar ingress listener needs it.
    pub address: Arc<str>,
    pub http10: bool,
    pub status_port: u32,
    pub prometheus_port: u32,
}

/// A client's view of a snapshot: what outbound generators are given.
#[derive(Clone, Copy, Debug)]
pub struct Client<'a> {
    pub snapshot: &'a Snapshot,
    pub class: &'a OutboundClass,
    pub scope: &'a Scope,
}

impl<'a> Client<'a> {
    pub fn service(&self, host: &Host) -> Option<&'a Arc<Service>> {
        self.scope.services.get(host)
    }

    /// The VirtualService that rules `host` here.
    pub fn virtual_service(&self, host: &Host) -> Option<&'a Arc<VirtualService>> {
        self.scope.virtual_service(self.snapshot, host)
    }

    pub fn destination_rule(&self, service: &Service) -> Option<&'a Arc<Rule>> {
        self.snapshot.destination_rules.for_service(
            &self.class.namespace,
            &self.class.labels,
            service,
            &self.snapshot.mesh.root_namespace,
        )
    }

    /// Endpoints of `service`; none when nobody implements it.
    pub fn endpoints(&self, service: &Service) -> Option<&'a Arc<Endpoints>> {
        self.snapshot.endpoints.get(&service.key)
    }
}

/// A service port that a workload implements, with what was found for it.
#[derive(Clone, Debug)]
pub struct ServiceTarget<'a> {
    pub service: &'a Arc<Service>,
    pub service_port: &'a ServicePort,
    /// Port at the workload.
    pub port: u32,
}

/// A workload's view of a snapshot: what inbound generators are given.
#[derive(Clone, Copy, Debug)]
pub struct Server<'a> {
    pub snapshot: &'a Snapshot,
    pub class: &'a InboundClass,
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
    let labels: Arc<Labels> = Arc::new(
        proxy
            .labels
            .iter()
            .filter(|(key, _)| snapshot.mentioned_labels.contains(*key))
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect(),
    );
    let sidecar = match proxy.kind {
        ProxyType::Sidecar => snapshot
            .sidecar_for(&proxy.namespace, &proxy.labels)
            .map(|s| Arc::from(format!("{}/{}", s.namespace(), s.name()))),
        ProxyType::Router => None,
    };
    let outbound = OutboundClass {
        kind: proxy.kind,
        namespace: proxy.namespace.clone(),
        sidecar: sidecar.clone(),
        dns_domain: proxy.dns_domain.clone(),
        ip_mode: proxy.ip_mode,
        interception: proxy.interception,
        cluster_id: proxy.cluster_id.clone(),
        network: proxy.network.clone(),
        locality: proxy.locality.clone(),
        node_name: if snapshot.node_local_services {
            proxy.node_name.clone()
        } else {
            "".into()
        },
        labels: labels.clone(),
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
        ip_mode: proxy.ip_mode,
        interception: proxy.interception,
        targets: snapshot.targets(&proxy.ips, &proxy.namespace),
        labels,
        address: match (&sidecar, proxy.ips.first()) {
            (Some(_), Some(ip)) => ip.to_string().into(),
            _ => "".into(),
        },
        sidecar,
        http10: proxy.http10,
        status_port: proxy.status_port,
        prometheus_port: proxy.prometheus_port,
    });
    (outbound, inbound)
}

/// The account of a proxy, if it is of the namespace whose Secrets the proxy asks for.
fn account(proxy: &Proxy) -> Option<&Account> {
    let account = proxy.verified.as_ref();
    account.filter(|account| account.namespace == proxy.namespace)
}
