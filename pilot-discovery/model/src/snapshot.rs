//! One consistent state of the mesh. Immutable; the next state shares what is unchanged.

use crate::hashed::Hashed;
use std::{collections::BTreeSet, net::IpAddr, sync::Arc};

use imbl::OrdMap;
use istio_api::networking::v1alpha3 as api;
use istio_rules::conversion::Complaint;

use crate::{
    authn::{PeerAuthentications, legacy::Unit},
    config::{Config, ConfigName, Labels, selects},
    credential::{ClusterSecrets, Credential},
    destination_rule::DestinationRules,
    host::Host,
    key::ObjectKey,
    lookup::Lookup,
    mesh::Mesh,
    service::{Endpoints, Service, ServiceKey, Target},
    virtual_service::VirtualServices,
};

/// All inputs of generators.
#[derive(Clone, Debug, Default)]
pub struct Snapshot {
    /// Increases with every published state.
    pub version: u64,
    /// The mesh settings.
    pub mesh: Arc<Hashed<Mesh>>,
    /// Versions of user-written objects, of the kinds that resources refer to.
    pub configs: OrdMap<ConfigName, Arc<str>>,
    /// Every declaration of a host, oldest first.
    pub services: OrdMap<Host, Arc<[Arc<Hashed<Service>>]>>,
    /// Hosts of `services` by their letters in reverse, to find hosts with a common suffix.
    pub(crate) hosts_by_end: OrdMap<Arc<str>, Host>,
    /// Services whose external name is this host, which may be unknown.
    pub aliases: OrdMap<Host, Arc<BTreeSet<ServiceKey>>>,
    /// Endpoints by service.
    pub endpoints: OrdMap<ServiceKey, Arc<Hashed<Endpoints>>>,
    /// Service ports that are implemented at an address.
    pub by_address: OrdMap<Arc<str>, Arc<BTreeSet<Target>>>,
    /// VirtualServices, delegates merged in.
    pub virtual_services: VirtualServices,
    /// DestinationRules, merged by namespace and host.
    pub destination_rules: DestinationRules,
    /// Gateway objects.
    pub gateways: OrdMap<ObjectKey, Arc<Config<api::Gateway>>>,
    /// Sidecar objects.
    pub sidecars: OrdMap<ObjectKey, Arc<Config<api::Sidecar>>>,
    /// PeerAuthentications, converted ones included.
    pub peer_authentications: PeerAuthentications,
    /// Parts of 1.1 policies that could not be converted, and why.
    pub unconverted: OrdMap<Unit, Arc<[Complaint]>>,
    /// Credentials of the directory, by `namespace/name` of the Secret.
    pub credentials: OrdMap<ObjectKey, Arc<Credential>>,
    /// Credentials of the cluster.
    pub cluster_secrets: ClusterSecrets,
    /// The properties of proxies that the configuration uses.
    pub lookup: Arc<Lookup>,
}

impl Snapshot {
    /// Hosts that are aliases of `host`, directly or through other aliases.
    pub fn names_of(&self, host: &Host) -> BTreeSet<Host> {
        let mut found = BTreeSet::new();
        let mut ahead = vec![host.clone()];
        while let Some(next) = ahead.pop() {
            for name in self
                .aliases
                .get(&next)
                .into_iter()
                .flat_map(|names| names.iter())
            {
                // Each alias is followed once, even in a cycle.
                if found.insert(name.host.clone()) {
                    ahead.push(name.host.clone());
                }
            }
        }
        found
    }

    /// Hosts of services that a wildcard covers, exact ones and wildcards.
    pub fn hosts_below(&self, wildcard: &Host) -> impl Iterator<Item = &Host> {
        let end = Host::new(wildcard.tail().unwrap_or_default()).reversed();
        let first = end.clone();
        self.hosts_by_end
            .range(first..)
            .take_while(move |(reversed, _)| reversed.starts_with(&*end))
            .map(|(_, host)| host)
            .filter(|host| host.subset_of(wildcard))
    }

    /// The declaration of a service.
    pub fn service(&self, key: &ServiceKey) -> Option<&Arc<Hashed<Service>>> {
        self.services
            .get(&key.host)?
            .iter()
            .find(|service| service.key.namespace == key.namespace)
    }

    /// The Sidecar that applies to a workload: one of its namespace that selects it, else one of
    /// its namespace for all, else one of the root namespace for all; the oldest of each.
    pub fn sidecar_for(
        &self,
        namespace: &str,
        labels: &Labels,
    ) -> Option<&Arc<Config<api::Sidecar>>> {
        let oldest = |of: &str, want: &dyn Fn(Option<&Labels>) -> bool| {
            self.sidecars
                .range(ObjectKey::new(of, "")..)
                .map(|(_, sidecar)| sidecar)
                .take_while(|sidecar| sidecar.namespace() == of)
                .filter(|sidecar| want(sidecar_selector(&sidecar.spec)))
                .min_by(|a, b| a.by_age(b))
        };
        oldest(namespace, &|selector| {
            selector.is_some_and(|s| selects(s, labels))
        })
        .or_else(|| oldest(namespace, &|selector| selector.is_none()))
        .or_else(|| oldest(&self.mesh.root_namespace, &|selector| selector.is_none()))
    }

    /// Gateways whose selector matches a workload with `labels`, oldest first.
    pub fn gateways_for(&self, labels: &Labels) -> Vec<&Arc<Config<api::Gateway>>> {
        let mut gateways: Vec<_> = self
            .gateways
            .values()
            .filter(|gateway| selects(&gateway.spec.selector, labels))
            .collect();
        gateways.sort_by(|a, b| a.by_age(b));
        gateways
    }

    /// The service ports that a workload with these addresses implements, sorted; only of services
    /// in `namespace`, unless it is empty.
    pub fn targets(&self, ips: &[IpAddr], namespace: &str) -> Arc<[Target]> {
        let mut targets: Vec<Target> = ips
            .iter()
            .filter_map(|ip| self.by_address.get(ip.to_string().as_str()))
            .flat_map(|targets| targets.iter())
            .filter(|target| namespace.is_empty() || &*target.service.namespace == namespace)
            .cloned()
            .collect();
        targets.sort();
        targets.dedup();
        targets.into()
    }
}

/// The labels by which a Sidecar selects workloads; `None` if it applies to all.
pub fn sidecar_selector(sidecar: &api::Sidecar) -> Option<&Labels> {
    sidecar
        .workload_selector
        .as_ref()
        .map(|selector| &selector.labels)
        .filter(|labels| !labels.is_empty())
}
