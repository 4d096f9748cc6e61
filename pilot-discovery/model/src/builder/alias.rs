//! Services that are an alias of a known one (Kubernetes ExternalName).

use std::{collections::BTreeSet, sync::Arc};

use super::Builder;
use crate::{
    hashed::Hashed,
    host::Host,
    service::{Resolution, Service, ServiceKey},
};

impl Builder {
    /// An external name is an alias while a service has that host; else proxies resolve it.
    pub(super) fn with_alias(&self, mut service: Service) -> Service {
        let is_known = service.external_name.as_ref().is_some_and(|target| {
            target != service.host() && self.next.services.contains_key(target)
        });
        if is_known {
            service.resolution = Resolution::Alias;
        }
        service
    }

    /// Indexes which services are aliases of which host, whether or not that host is known.
    pub(super) fn index_alias(
        &mut self,
        key: &ServiceKey,
        old: Option<&Arc<Hashed<Service>>>,
        new: Option<&Arc<Hashed<Service>>>,
    ) {
        let target = |service: Option<&Arc<Hashed<Service>>>| service?.external_name.clone();
        let (old, new) = (target(old), target(new));
        if old == new {
            return;
        }
        if let Some(target) = old {
            self.change_aliases(&target, |names| {
                names.remove(key);
            });
        }
        if let Some(target) = new {
            self.change_aliases(&target, |names| {
                names.insert(key.clone());
            });
        }
    }

    fn change_aliases(&mut self, target: &Host, change: impl FnOnce(&mut BTreeSet<ServiceKey>)) {
        let aliases = &mut self.next.aliases;
        let mut names = aliases
            .get(target)
            .map(|held| (**held).clone())
            .unwrap_or_default();
        change(&mut names);
        if names.is_empty() {
            aliases.remove(target);
        } else {
            aliases.insert(target.clone(), Arc::new(names));
        }
    }

    /// Decides the aliases of `host` again when it appeared or disappeared.
    pub(super) fn follow_presence(&mut self, host: &Host, was_known: bool) {
        if self.next.services.contains_key(host) == was_known {
            return;
        }
        let names = self.next.aliases.get(host).cloned().unwrap_or_default();
        for name in names.iter().filter(|name| name.host != *host) {
            self.remerge(name);
        }
    }
}
