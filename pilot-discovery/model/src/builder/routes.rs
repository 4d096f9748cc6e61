//! VirtualServices with the routes of their delegates merged in.

use std::{collections::BTreeSet, sync::Arc};

use istio_api::networking::v1alpha3 as api;

use super::Builder;
use crate::{
    config::Config,
    hashed::Hashed,
    key::ObjectKey,
    virtual_service::{VirtualService, delegate},
};

impl Builder {
    pub(super) fn virtual_service(
        &mut self,
        key: &ObjectKey,
        config: Option<Config<api::VirtualService>>,
    ) {
        let root = config
            .map(|config| Arc::new(Hashed::new(VirtualService::new(config, &self.next.mesh))));
        let named = |root: &Arc<Hashed<VirtualService>>| delegate::named(root);
        let new = root.as_ref().map(named).unwrap_or_default();
        let old = match root {
            Some(root) => self.roots.insert(key.clone(), root),
            None => self.roots.remove(key),
        };
        let old = old.as_ref().map(named).unwrap_or_default();
        self.index_delegates(key, &old, &new);
        // The object itself, and the roots that delegate to it.
        let mut affected = self.delegators.get(key).cloned().unwrap_or_default();
        affected.insert(key.clone());
        for key in affected {
            self.merge_virtual_service(&key);
        }
    }

    fn index_delegates(
        &mut self,
        root: &ObjectKey,
        old: &BTreeSet<ObjectKey>,
        new: &BTreeSet<ObjectKey>,
    ) {
        for delegate in old.difference(new) {
            if let Some(roots) = self.delegators.get_mut(delegate) {
                roots.remove(root);
                if roots.is_empty() {
                    self.delegators.remove(delegate);
                }
            }
        }
        for delegate in new.difference(old) {
            let roots = self.delegators.entry(delegate.clone()).or_default();
            roots.insert(root.clone());
        }
    }

    fn merge_virtual_service(&mut self, key: &ObjectKey) {
        let merged = self
            .roots
            .get(key)
            .map(|root| delegate::merge(root, |wanted| self.roots.get(wanted).cloned()));
        let old = self.next.virtual_services.get(key).cloned();
        for vs in old.iter().chain(&merged) {
            let hosts = &mut self.changes.virtual_service_hosts;
            hosts.extend(vs.hosts.iter().cloned());
        }
        self.lookups.replace(
            old.map(|vs| vs.lookup()),
            merged.as_ref().map(|vs| vs.lookup()),
        );
        self.changes.virtual_services.insert(key.clone());
        self.next.virtual_services.replace(key, merged);
    }
}
