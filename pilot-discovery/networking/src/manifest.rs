//! The resources of a class of proxies: per type a persistent map, so that two versions share
//! their common part and are compared in time proportional to their difference.

use std::{
    collections::HashMap,
    hash::BuildHasherDefault,
    ops,
    sync::{Arc, OnceLock},
};

use imbl::{OrdMap, ordmap::DiffItem};

use crate::{
    hash::TextHasher,
    kind::{ByKind, Kind},
    resource::{Resource, Skipped},
};

/// Resources of one type by name.
pub type Set = OrdMap<Arc<str>, Arc<Resource>>;

/// One version of all resources of a class.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    /// Resources by type. There is one load assignment for every EDS cluster.
    pub sets: ByKind<Set>,
    /// What was left out, by unit of work of the generators.
    pub skipped: OrdMap<Arc<str>, Arc<[Skipped]>>,
    indices: Indices,
}

impl Manifests {
    /// Names and versions of one type; built on first use.
    pub fn names(&self, kind: Kind) -> &Arc<Index> {
        self.indices.0[kind].get_or_init(|| Arc::new(Index::of(&self.sets[kind])))
    }

    /// Whether nothing differs, including provenance and what was left out.
    pub fn is_untouched(&self, new: &Self) -> bool {
        let sets = Kind::ALL.into_iter();
        sets.map(|kind| (&self.sets[kind], &new.sets[kind]))
            .all(|(old, new)| old.ptr_eq(new))
            && (self.skipped.ptr_eq(&new.skipped) || self.skipped == new.skipped)
    }
}

impl ops::Index<Kind> for Manifests {
    type Output = Set;

    fn index(&self, kind: Kind) -> &Set {
        &self.sets[kind]
    }
}

impl ops::IndexMut<Kind> for Manifests {
    fn index_mut(&mut self, kind: Kind) -> &mut Set {
        &mut self.sets[kind]
    }
}

/// Names and versions of the resources of one type, for looking up thousands at once. Holds no
/// resource, so that keeping an index keeps no resource bytes in memory.
#[derive(Debug, Default)]
pub struct Index(HashMap<Arc<str>, Slot, BuildHasherDefault<TextHasher>>);

/// An entry of an [`Index`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Slot {
    /// Position, from 0 on, without gaps.
    pub at: usize,
    /// Version of the resource.
    pub version: u64,
}

impl Index {
    /// The index of a set.
    pub fn of(set: &Set) -> Self {
        let slots = set.values().enumerate();
        let slots = slots.map(|(at, resource)| {
            let version = resource.version;
            (resource.name.clone(), Slot { at, version })
        });
        Self(slots.collect())
    }

    /// The shared name and its slot.
    pub fn get(&self, name: &str) -> Option<(&Arc<str>, Slot)> {
        self.0.get_key_value(name).map(|(name, slot)| (name, *slot))
    }

    /// All entries.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, Slot)> {
        self.0.iter().map(|(name, slot)| (name, *slot))
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.0.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }
}

/// The indices of one version of the manifests, each built on first use.
#[derive(Debug, Default)]
struct Indices(ByKind<OnceLock<Arc<Index>>>);

impl Clone for Indices {
    /// Starts empty: a copy is made in order to change it.
    fn clone(&self) -> Self {
        Self::default()
    }
}

/// One name for which two sets differ.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// New, or with other bytes.
    Put(Arc<Resource>),
    /// Gone.
    Removed(Arc<str>),
}

/// What changes from `old` to `new`, by name. The cost is proportional to the difference, if one
/// was derived from the other.
pub fn differences(old: &Set, new: &Set) -> Vec<Difference> {
    if old.ptr_eq(new) {
        return Vec::new();
    }
    old.diff(new)
        .filter_map(|item| match item {
            DiffItem::Add(_, resource) => Some(Difference::Put(resource.clone())),
            DiffItem::Update {
                old: (_, old),
                new: (_, new),
            } => (old.version != new.version).then(|| Difference::Put(new.clone())),
            DiffItem::Remove(name, _) => Some(Difference::Removed(name.clone())),
        })
        .collect()
}

/// Inserts a resource unless the set holds an equal one; keeps structure shared. Equal bytes from
/// other sources are inserted too: nothing is sent, but provenance is shown.
pub fn put(set: &mut Set, resource: Arc<Resource>) {
    let same = set
        .get(&resource.name)
        .is_some_and(|held| held.version == resource.version && held.sources == resource.sources);
    if !same {
        set.insert(resource.name.clone(), resource);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn resource(name: &str, text: &'static str) -> Arc<Resource> {
        Arc::new(Resource::from_bytes(name, text.as_bytes().into(), []))
    }

    #[test]
    fn differences_name_what_was_put_and_removed() {
        let mut old = Set::new();
        for name in ["a", "b", "c"] {
            put(&mut old, resource(name, "1"));
        }
        let mut new = old.clone();
        put(&mut new, resource("a", "1"));
        put(&mut new, resource("b", "2"));
        put(&mut new, resource("d", "1"));
        new.remove("c");
        assert_eq!(
            differences(&old, &new),
            [
                Difference::Put(resource("b", "2")),
                Difference::Removed("c".into()),
                Difference::Put(resource("d", "1")),
            ]
        );
        assert!(differences(&new, &new.clone()).is_empty());
    }

    #[test]
    fn other_sources_are_taken_over_and_make_no_difference() {
        let mut old = Set::new();
        put(&mut old, resource("a", "1"));
        let source = pilot_model::config::ConfigRef {
            kind: "DestinationRule",
            namespace: "demo".into(),
            name: "a".into(),
            version: "1".into(),
        };
        let mut new = old.clone();
        let ruled = Resource::from_bytes("a", "1".into(), [source.clone()]);
        put(&mut new, Arc::new(ruled));
        assert_eq!(*new["a"].sources, [source]);
        assert!(differences(&old, &new).is_empty());
    }
}
