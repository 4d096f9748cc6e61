//! What a class of proxies is sent: per type a persistent map, so that two versions of it share
//! what they have in common and differ in the time of their difference.

use std::{collections::BTreeMap, sync::Arc};

use imbl::{OrdMap, ordmap::DiffItem};

use crate::resource::{Resource, Skipped};

/// Resources of one type by name.
pub type Set = OrdMap<Arc<str>, Arc<Resource>>;

/// One version of everything that a class is sent.
#[derive(Clone, Debug, Default)]
pub struct Manifests {
    pub clusters: Set,
    /// One assignment for every EDS cluster of `clusters`.
    pub endpoints: Set,
    pub listeners: Set,
    pub routes: Set,
    pub secrets: Set,
    /// What was left out, by the generator's unit of work.
    pub skipped: BTreeMap<Arc<str>, Arc<[Skipped]>>,
}

/// One name that two sets do not agree on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Difference {
    /// New, or with other bytes.
    Put(Arc<Resource>),
    Removed(Arc<str>),
}

/// What leads from `old` to `new`, by name. Costs what differs, as long as one was made from the
/// other.
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

/// Inserts a resource unless the set holds the same version already; keeps structure shared.
pub fn put(set: &mut Set, resource: Arc<Resource>) {
    let same = set
        .get(&resource.name)
        .is_some_and(|held| held.version == resource.version);
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
}
