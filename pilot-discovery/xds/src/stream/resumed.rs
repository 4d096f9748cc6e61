//! What a reconnecting proxy already holds.

use std::{collections::BTreeSet, sync::Arc};

use pilot_networking::{manifest::Index, resource::Resource};

use super::version::parse;
use crate::{names::Marks, request::Versions, view::Sets};

/// The resources that a reconnecting proxy holds according to `initial`, as far as their names are
/// known. The difference to `view` is what has to be sent.
pub(super) fn held_before(index: &Arc<Index>, view: Sets, initial: &Versions) -> Sets {
    if initial.is_empty() {
        return Sets::default();
    }
    let mut held = Marks::new(index);
    let mut differing: Vec<(&str, u64)> = Vec::new();
    let mut inbound: BTreeSet<&str> = BTreeSet::new();
    for (name, version) in initial.iter() {
        let now = match index.get(name) {
            Some((_, slot)) => {
                held.mark(name);
                Some(slot.version)
            }
            None => {
                let now = view.inbound.get(name).map(|resource| resource.version);
                inbound.extend(now.map(|_| name));
                now
            }
        };
        let version = version_held(version, now);
        if now != Some(version) {
            differing.push((name, version));
        }
    }
    let mut sent = view;
    for name in held.unmarked() {
        sent.outbound.remove(name);
    }
    if inbound.len() < sent.inbound.len() {
        let gone = |name: &&Arc<str>| !inbound.contains(&***name);
        let gone: Vec<Arc<str>> = sent.inbound.keys().filter(gone).cloned().collect();
        for name in gone {
            sent.inbound.remove(&name);
        }
    }
    for (name, version) in differing {
        let set = if inbound.contains(name) {
            &mut sent.inbound
        } else {
            &mut sent.outbound
        };
        let resource = known_by_version(name, version);
        set.insert(resource.name.clone(), resource);
    }
    sent
}

/// Represents a resource that a proxy holds and of which only the version is known.
pub(super) fn known_by_version(name: &str, version: u64) -> Arc<Resource> {
    Arc::new(Resource {
        name: name.into(),
        version,
        body: Default::default(),
        sources: Arc::new([]),
    })
}

/// The version that a proxy says it holds; one that pilot did not assign never equals `now`.
pub(super) fn version_held(version: &str, now: Option<u64>) -> u64 {
    parse(version).unwrap_or_else(|| !now.unwrap_or(0))
}
