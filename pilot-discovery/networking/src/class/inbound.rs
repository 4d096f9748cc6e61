//! What workloads that serve the same ports under the same policies are sent.

use crate::kind::Kind;
use std::sync::Arc;

use pilot_model::{
    changes::Changes,
    class::{InboundClass, Server},
    key::ObjectKey,
    snapshot::Snapshot,
};

use super::{cache::Cache, group::Side};
use crate::{
    cluster, listener,
    manifest::{Manifests, Set, put},
    resource::{Resource, Skipped},
};

/// An inbound class; small, so it is rebuilt whenever something that it reads changed.
#[derive(Debug)]
pub struct Inbound {
    class: InboundClass,
    manifests: Arc<Manifests>,
}

impl Side for Inbound {
    fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }
}

impl Inbound {
    /// What the proxies of the class are to hold.
    pub fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }

    /// Makes everything that the class is sent.
    pub fn new(snapshot: &Snapshot, class: InboundClass, cache: &mut Cache) -> Self {
        let mut inbound = Self {
            class,
            manifests: Arc::default(),
        };
        inbound.rebuild(snapshot, cache);
        inbound
    }

    /// The class.
    pub fn class(&self) -> &InboundClass {
        &self.class
    }

    /// Follows `snapshot`.
    pub fn update(&mut self, snapshot: &Snapshot, changes: &Changes, cache: &mut Cache) {
        let root = &snapshot.mesh.root_namespace;
        let concerned = changes.everything
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
        if concerned {
            self.rebuild(snapshot, cache);
        }
    }

    fn rebuild(&mut self, snapshot: &Snapshot, cache: &mut Cache) {
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
        let inputs = listener::inbound::gather(&server);
        let listeners = cache
            .inbound_listeners
            .get_or_build(&inputs, |inputs| listener::inbound::build(inputs).into());
        let mut next = Manifests::clone(&self.manifests);
        let made = clusters.resources.into_iter().map(Arc::new);
        replace(&mut next[Kind::Cluster], made);
        replace(
            &mut next[Kind::Listener],
            listeners.resources.iter().cloned(),
        );
        let skipped: Vec<Skipped> = clusters
            .skipped
            .into_iter()
            .chain(listeners.skipped.iter().cloned())
            .collect();
        next.skipped = imbl::OrdMap::unit("inbound".into(), skipped.into());
        let same = self.manifests.is_untouched(&next);
        if !same {
            self.manifests = Arc::new(next);
        }
    }
}

/// Makes `set` hold exactly `resources`; the first of a name wins.
fn replace(set: &mut Set, resources: impl Iterator<Item = Arc<Resource>>) {
    let mut kept = Set::new();
    for resource in resources {
        if !kept.contains_key(&resource.name) {
            kept.insert(resource.name.clone(), resource);
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
