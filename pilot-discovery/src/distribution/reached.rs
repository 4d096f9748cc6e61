//! Which objects reach the proxies of a class, and in which version of it they last changed.

use std::{
    cmp::Ordering,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::ordmap::DiffItem;
use pilot_model::config::ConfigRef;
use pilot_networking::{manifest::Manifests, resource::Resource};

use super::ByKind;
use pilot_networking::class::group::ClassState;
use pilot_networking::kind::Kind;

/// Number of an object in the ledger.
pub(super) type ObjectId = u32;

/// Versions that a proxy must have accepted to hold an object, by type; 0 = none.
pub(super) type Needs = ByKind<u64>;

/// The resources of one type that are built from an object.
#[derive(Clone, Copy, Debug, Default)]
struct Part {
    resources: u32,
    /// Version of the view in which the object was last added to, changed in or removed from one.
    since: u64,
}

/// One class. A resource that changes for a reason other than the object does not affect it: the
/// object's part was accepted with an earlier version.
#[derive(Debug, Default)]
pub(super) struct Reached {
    manifests: Arc<Manifests>,
    parts: BTreeMap<(ObjectId, Kind), Part>,
}

/// How an object changed in a resource.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum News {
    Came,
    Changed,
    Left,
}

impl Reached {
    /// Follows the class; returns the objects that changed. `id` is `None` for objects that are not
    /// counted.
    pub(super) fn follow(
        &mut self,
        held: &ClassState,
        id: impl Fn(&ConfigRef) -> Option<ObjectId>,
    ) -> BTreeSet<ObjectId> {
        let mut touched = BTreeSet::new();
        if Arc::ptr_eq(&self.manifests, &held.manifests) {
            return touched;
        }
        let before = std::mem::replace(&mut self.manifests, held.manifests.clone());
        // 0 means none.
        let since = held.made.max(1);
        for kind in Kind::ALL {
            let mut note = |config: &ConfigRef, news| {
                let Some(id) = id(config) else { return };
                touched.insert(id);
                let part = self.parts.entry((id, kind)).or_default();
                part.since = since;
                part.resources = match news {
                    News::Came => part.resources.saturating_add(1),
                    News::Changed => part.resources,
                    News::Left => part.resources.saturating_sub(1),
                };
            };
            for item in before[kind].diff(&held.manifests[kind]) {
                match item {
                    DiffItem::Add(_, new) => compare(&[], &new.sources, &mut note),
                    DiffItem::Remove(_, old) => compare(&old.sources, &[], &mut note),
                    DiffItem::Update {
                        old: (_, old),
                        new: (_, new),
                    } => update(old, new, &mut note),
                }
            }
        }
        for id in &touched {
            if self.range(*id).all(|(_, part)| part.resources == 0) {
                self.forget(*id);
            }
        }
        touched
    }

    /// Adds an invented object.
    #[cfg(test)]
    pub(super) fn put(&mut self, id: ObjectId, needs: Needs) {
        for (kind, since) in Kind::ALL.into_iter().zip(needs) {
            let resources = 1;
            self.parts.insert((id, kind), Part { resources, since });
        }
    }

    fn range(&self, id: ObjectId) -> impl Iterator<Item = (Kind, &Part)> {
        let of_it = (id, Kind::Cluster)..=(id, Kind::Secret);
        let parts = self.parts.range(of_it);
        parts.map(|((_, kind), part)| (*kind, part))
    }

    /// Removes an object that no longer exists.
    pub(super) fn forget(&mut self, id: ObjectId) {
        for kind in Kind::ALL {
            self.parts.remove(&(id, kind));
        }
    }

    /// The versions needed to hold the object; `None` if it does not reach the class.
    pub(super) fn needs(&self, id: ObjectId) -> Option<Needs> {
        let mut needs = None;
        for (kind, part) in self.range(id) {
            let needs: &mut Needs = needs.get_or_insert_default();
            if let Some(slot) = needs.get_mut(kind.index_of()) {
                *slot = part.since;
            }
        }
        needs
    }
}

fn update(old: &Resource, new: &Resource, note: &mut impl FnMut(&ConfigRef, News)) {
    if !Arc::ptr_eq(&old.sources, &new.sources) {
        compare(&old.sources, &new.sources, note);
    }
}

fn by_name(one: &ConfigRef, other: &ConfigRef) -> Ordering {
    let kinds = one.kind.cmp(other.kind);
    let namespaces = || one.namespace.cmp(&other.namespace);
    let names = || one.name.cmp(&other.name);
    kinds.then_with(namespaces).then_with(names)
}

/// Compares two sorted lists of sources.
fn compare(old: &[ConfigRef], new: &[ConfigRef], note: &mut impl FnMut(&ConfigRef, News)) {
    let (mut old, mut new) = (old.iter().peekable(), new.iter().peekable());
    loop {
        let order = match (old.peek(), new.peek()) {
            (None, None) => return,
            (Some(_), None) => Ordering::Less,
            (None, Some(_)) => Ordering::Greater,
            (Some(old), Some(new)) => by_name(old, new),
        };
        match order {
            Ordering::Less => old.next().into_iter().for_each(|one| note(one, News::Left)),
            Ordering::Greater => new.next().into_iter().for_each(|one| note(one, News::Came)),
            Ordering::Equal => {
                if let (Some(old), Some(new)) = (old.next(), new.next())
                    && old.version != new.version
                {
                    note(new, News::Changed);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
