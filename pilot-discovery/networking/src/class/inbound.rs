//! What workloads that serve the same ports under the same policies are sent.

use std::sync::Arc;

use pilot_model::{
    changes::Changes,
    class::{InboundClass, Server},
    key::ObjectKey,
    snapshot::Snapshot,
};

use crate::{
    cluster, listener,
    manifest::{Manifests, put},
    resource::Skipped,
};

/// An inbound class; small, so it is made anew whenever something it reads changed.
#[derive(Debug)]
pub struct Inbound {
    class: InboundClass,
    manifests: Arc<Manifests>,
}

impl Inbound {
    pub fn new(snapshot: &Snapshot, class: InboundClass) -> Self {
        let mut inbound = Self {
            class,
            manifests: Arc::default(),
        };
        inbound.rebuild(snapshot);
        inbound
    }

    pub fn class(&self) -> &InboundClass {
        &self.class
    }

    pub fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }

    /// Follows `snapshot`; `true` when the manifests changed.
    pub fn update(&mut self, snapshot: &Snapshot, changes: &Changes) -> bool {
        let root = &snapshot.mesh.root_namespace;
        let concerned = changes.everything
            || changes.selectors
            || [&changes.policies, &changes.sidecars]
                .iter()
                .any(|set| set.contains(&self.class.namespace) || set.contains(root))
            || self.class.targets.iter().any(|t| {
                changes.services.contains(&t.service.host)
                    || changes
                        .rules
                        .iter()
                        .any(|rule| t.service.host.subset_of(rule))
            });
        if !concerned {
            return false;
        }
        let before = self.manifests.clone();
        self.rebuild(snapshot);
        !Arc::ptr_eq(&before, &self.manifests)
    }

    fn rebuild(&mut self, snapshot: &Snapshot) {
        let sidecar = self.class.sidecar.as_deref().and_then(|name| {
            let (namespace, name) = name.split_once('/')?;
            snapshot.sidecars.get(&ObjectKey::new(namespace, name))
        });
        let server = Server {
            snapshot,
            class: &self.class,
            sidecar,
        };
        let clusters = cluster::inbound::build(&server);
        let listeners = listener::inbound::build(&server);
        let mut next = Manifests::clone(&self.manifests);
        replace(&mut next.clusters, clusters.resources);
        replace(&mut next.listeners, listeners.resources);
        let skipped: Vec<Skipped> = clusters
            .skipped
            .into_iter()
            .chain(listeners.skipped)
            .collect();
        next.skipped = imbl::OrdMap::unit("inbound".into(), skipped.into());
        let same = self.manifests.clusters.ptr_eq(&next.clusters)
            && self.manifests.listeners.ptr_eq(&next.listeners)
            && self.manifests.skipped == next.skipped;
        if !same {
            self.manifests = Arc::new(next);
        }
    }
}

/// Makes `set` hold exactly `resources`; the first of a name wins.
fn replace(set: &mut crate::manifest::Set, resources: Vec<crate::resource::Resource>) {
    let mut kept = crate::manifest::Set::new();
    for resource in resources {
        if !kept.contains_key(&resource.name) {
            kept.insert(resource.name.clone(), Arc::new(resource));
        }
    }
    let gone: Vec<Arc<str>> = set
        .keys()
        .filter(|name| !kept.contains_key(*name))
        .cloned()
        .collect();
    for name in gone {
        set.remove(&name);
    }
    for resource in kept.values() {
        put(set, resource.clone());
    }
}
