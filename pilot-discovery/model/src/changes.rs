//! What may differ between two snapshots.

use std::{collections::BTreeSet, sync::Arc};

use crate::{credential::Account, host::Host, key::ObjectKey};

/// Collected by the builder, for everything that is derived from snapshots.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// The mesh config changed, or pilot just started: nothing can be reused.
    pub everything: bool,
    /// Services that were added, removed or changed in more than their endpoints.
    pub services: BTreeSet<Host>,
    /// Services whose endpoints changed.
    pub endpoints: BTreeSet<Host>,
    /// VirtualServices that changed, roots of changed delegates included.
    pub virtual_services: BTreeSet<ObjectKey>,
    /// Hosts of changed VirtualServices, before and after the change.
    pub virtual_service_hosts: BTreeSet<Host>,
    /// Hosts of changed DestinationRules, wildcards as written.
    pub rules: BTreeSet<Host>,
    /// Whether any Gateway changed.
    pub gateways: bool,
    /// Namespaces of changed Sidecars.
    pub sidecars: BTreeSet<Arc<str>>,
    /// Namespaces of changed PeerAuthentications, converted ones included.
    pub policies: BTreeSet<Arc<str>>,
    /// Credentials of the directory or of the cluster.
    pub credentials: BTreeSet<ObjectKey>,
    /// Accounts that may receive different credentials now.
    pub rights: BTreeSet<Account>,
    /// Addresses that now implement different service ports.
    pub addresses: BTreeSet<Arc<str>>,
    /// The properties of proxies that configuration uses changed: their classes may differ now.
    pub lookup: bool,
    /// Parts of 1.1 policies that could not be converted changed; affects no proxy.
    pub unconverted: bool,
    /// Versions of objects changed; affects no proxy by itself.
    pub versions: bool,
}

impl Changes {
    /// Whether nothing changed.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }

    /// Whether only endpoint lists changed: clusters, listeners and routes stay.
    pub fn is_endpoints_only(&self) -> bool {
        let rest = Self {
            endpoints: BTreeSet::new(),
            addresses: BTreeSet::new(),
            versions: false,
            ..self.clone()
        };
        rest.is_empty()
    }

    /// Whether nothing changed that affects clusters, listeners or routes, except endpoint lists.
    pub fn is_endpoints_or_secrets(&self) -> bool {
        let rest = Self {
            credentials: BTreeSet::new(),
            rights: BTreeSet::new(),
            ..self.clone()
        };
        rest.is_endpoints_only()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_credentials_leave_the_rest_as_it_is() {
        let endpoints = Changes {
            endpoints: [Host::new("web")].into(),
            addresses: ["10.0.0.1".into()].into(),
            versions: true,
            ..Changes::default()
        };
        assert!(!endpoints.is_empty() && Changes::default().is_empty());
        assert!(endpoints.is_endpoints_only() && endpoints.is_endpoints_or_secrets());
        let secrets = Changes {
            credentials: [ObjectKey::new("a", "cert")].into(),
            rights: [Account::new("a", "edge")].into(),
            ..endpoints.clone()
        };
        assert!(!secrets.is_endpoints_only() && secrets.is_endpoints_or_secrets());
        let services = Changes {
            services: [Host::new("web")].into(),
            ..endpoints
        };
        assert!(!services.is_endpoints_only() && !services.is_endpoints_or_secrets());
    }
}
