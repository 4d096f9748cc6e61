//! What may differ between two snapshots.

use std::{collections::BTreeSet, sync::Arc};

use crate::{credential::Account, host::Host, key::ObjectKey};

/// Collected by the builder; read by everything that keeps results made from a snapshot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// Mesh config or start: nothing can be kept.
    pub everything: bool,
    /// Services that came, went or changed in more than their endpoints.
    pub services: BTreeSet<Host>,
    /// Services whose endpoints changed.
    pub endpoints: BTreeSet<Host>,
    /// VirtualServices that changed, roots of changed delegates included.
    pub virtual_services: BTreeSet<ObjectKey>,
    /// Hosts that changed VirtualServices claim or claimed.
    pub virtual_service_hosts: BTreeSet<Host>,
    /// Hosts of changed DestinationRules, wildcards as written.
    pub rules: BTreeSet<Host>,
    /// Some Gateway changed.
    pub gateways: bool,
    /// Namespaces of changed Sidecars.
    pub sidecars: BTreeSet<Arc<str>>,
    /// Namespaces of changed PeerAuthentications, converted ones included.
    pub policies: BTreeSet<Arc<str>>,
    /// Credentials of the directory or of the cluster.
    pub credentials: BTreeSet<ObjectKey>,
    /// Accounts that may be sent other credentials now.
    pub rights: BTreeSet<Account>,
    /// Addresses at which other service ports are implemented now.
    pub addresses: BTreeSet<Arc<str>>,
    /// What configuration looks at of proxies changed: they may belong to other classes now.
    pub lookup: bool,
    /// What of 1.1 could not be converted; touches no proxy.
    pub unconverted: bool,
    /// Versions of objects; touches no proxy by itself.
    pub versions: bool,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Only endpoint lists changed: clusters, listeners and routes stay.
    pub fn is_endpoints_only(&self) -> bool {
        let rest = Self {
            endpoints: BTreeSet::new(),
            addresses: BTreeSet::new(),
            versions: false,
            ..self.clone()
        };
        rest.is_empty()
    }

    /// Nothing changed that decides about clusters, listeners or routes, besides endpoint lists.
    pub fn is_endpoints_or_secrets(&self) -> bool {
        let rest = Self {
            credentials: BTreeSet::new(),
            rights: BTreeSet::new(),
            ..self.clone()
        };
        rest.is_endpoints_only()
    }
}
