//! Which parts of a class a change touches.

use std::{collections::BTreeSet, sync::Arc};

use pilot_model::{
    builder::covered, changes::Changes, host::Host, key::ObjectKey, snapshot::Snapshot,
};

/// What is to be made again, the same for every class.
#[derive(Clone, Debug, Default)]
pub struct Dirt {
    /// Everything, through the cache.
    pub all: bool,
    /// Services to choose again.
    pub services: BTreeSet<Host>,
    /// Hosts whose clusters may differ.
    pub clusters: BTreeSet<Host>,
    /// Hosts whose endpoints may differ.
    pub endpoints: BTreeSet<Host>,
    /// Hosts whose virtual hosts may differ.
    pub routes: BTreeSet<Host>,
    /// VirtualServices whose own hosts (those that are not services) may differ.
    pub virtual_services: BTreeSet<ObjectKey>,
    /// Hosts whose ports' listeners may differ.
    pub listeners: BTreeSet<Host>,
    /// Listeners and routes of gateways may differ.
    pub gateways: bool,
    /// Namespaces of changed credentials.
    pub credentials: BTreeSet<Arc<str>>,
    /// Some VirtualService changed: scopes of Sidecars may differ.
    pub virtual_services_changed: bool,
}

impl Dirt {
    /// What `changes` touch.
    pub fn of(snapshot: &Snapshot, changes: &Changes) -> Self {
        let mut dirt = Self {
            // Policies decide which endpoints take mutual TLS, Sidecars what is seen at all; both
            // change seldom, and the cache makes the rest cheap.
            all: changes.everything || !changes.sidecars.is_empty() || !changes.policies.is_empty(),
            gateways: !changes.is_endpoints_or_secrets(),
            credentials: changes
                .credentials
                .iter()
                .map(|key| key.namespace.clone())
                .collect(),
            virtual_services_changed: !changes.virtual_services.is_empty(),
            ..Self::default()
        };
        if dirt.all {
            return dirt;
        }
        dirt.services.clone_from(&changes.services);
        for rule in &changes.rules {
            dirt.clusters.extend(covered(snapshot, rule));
        }
        // Rules reach into routes (hash policies) and into TCP listeners (idle times).
        let mut touched: BTreeSet<Host> = dirt.clusters.union(&changes.services).cloned().collect();
        // What stands for a service is served by it.
        let names: Vec<Host> = touched
            .iter()
            .flat_map(|host| snapshot.names_of(host))
            .collect();
        touched.extend(names);
        dirt.clusters.clone_from(&touched);
        dirt.endpoints = touched.union(&changes.endpoints).cloned().collect();
        dirt.listeners.clone_from(&touched);
        dirt.routes.clone_from(&touched);
        for host in &touched {
            for vs in snapshot.virtual_services.sending_to(host) {
                dirt.add_claims(snapshot, &vs.hosts);
                dirt.virtual_services.insert(ObjectKey::of(&vs.config));
            }
        }
        let claims: Vec<Host> = changes.virtual_service_hosts.iter().cloned().collect();
        dirt.add_claims(snapshot, &claims);
        dirt.virtual_services
            .extend(changes.virtual_services.iter().cloned());
        // A service that comes or goes moves a host between the two kinds of virtual hosts, and a
        // VirtualService that comes or goes may take a host from another or leave it to another.
        for host in changes.services.iter().chain(&claims) {
            let claiming = snapshot.virtual_services.overlapping(host);
            dirt.virtual_services.extend(claiming);
        }
        dirt
    }

    fn add_claims(&mut self, snapshot: &Snapshot, hosts: &[Host]) {
        for host in hosts {
            for service in covered(snapshot, host) {
                self.listeners.insert(service.clone());
                self.routes.insert(service);
            }
        }
    }
}
