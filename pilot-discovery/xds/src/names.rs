//! Sets of resource names that proxies subscribe to.
//!
//! A proxy subscribes to the endpoints of all its clusters, which are the same for its whole
//! class: thousands of names. So a set is stored as the difference to the index of a manifest,
//! which all streams of a class share.

use std::{collections::BTreeSet, sync::Arc};

use pilot_networking::manifest::Index;

/// A set of names.
#[derive(Clone, Debug, Default)]
pub struct NameSet {
    base: Arc<Index>,
    /// Names outside `base` that are in the set.
    added: BTreeSet<Arc<str>>,
    /// Names in `base` that are not in the set.
    removed: BTreeSet<Arc<str>>,
}

impl NameSet {
    /// Whether the name is in the set.
    pub fn contains(&self, name: &str) -> bool {
        if self.base.get(name).is_some() {
            !self.removed.contains(name)
        } else {
            self.added.contains(name)
        }
    }

    /// Adds a name; `true` if it was not in the set.
    pub fn insert(&mut self, name: Arc<str>) -> bool {
        if self.base.get(&name).is_some() {
            self.removed.remove(&name)
        } else {
            self.added.insert(name)
        }
    }

    /// Removes a name; `true` if it was in the set.
    pub fn remove(&mut self, name: &str) -> bool {
        match self.base.get(name) {
            Some((name, _)) => self.removed.insert(name.clone()),
            None => self.added.remove(name),
        }
    }

    /// Number of names.
    pub fn len(&self) -> usize {
        self.base.len() - self.removed.len() + self.added.len()
    }

    /// Whether the set is empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// All names, in no particular order.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<str>> {
        let base = self.base.iter().map(|(name, _)| name);
        base.filter(|name| !self.removed.contains(*name))
            .chain(&self.added)
    }

    /// Names of `self` that are not in `other`.
    pub fn difference(&self, other: &Self) -> Vec<Arc<str>> {
        if Arc::ptr_eq(&self.base, &other.base) {
            let added = self.added.difference(&other.added);
            let back = other.removed.difference(&self.removed);
            return added.chain(back).cloned().collect();
        }
        self.iter()
            .filter(|name| !other.contains(name))
            .cloned()
            .collect()
    }
}

impl<T: Into<Arc<str>>> FromIterator<T> for NameSet {
    fn from_iter<I: IntoIterator<Item = T>>(names: I) -> Self {
        Self {
            added: names.into_iter().map(Into::into).collect(),
            ..Self::default()
        }
    }
}

/// Collects names, most of which are in an index.
#[derive(Clone, Debug)]
pub struct Marks<'a> {
    index: &'a Arc<Index>,
    /// One bit per position of the index.
    bits: Vec<u64>,
    count: usize,
    others: BTreeSet<Arc<str>>,
}

impl<'a> Marks<'a> {
    /// Starts with no name marked.
    pub fn new(index: &'a Arc<Index>) -> Self {
        Self {
            index,
            bits: vec![0; index.len().div_ceil(64)],
            count: 0,
            others: BTreeSet::new(),
        }
    }

    /// Marks a name, which may be outside the index.
    pub fn mark(&mut self, name: &str) {
        match self.index.get(name) {
            Some((_, slot)) => self.mark_at(slot.at),
            None if self.others.contains(name) => {}
            None => {
                self.others.insert(name.into());
            }
        }
    }

    fn mark_at(&mut self, at: usize) {
        let bit = 1 << (at % 64);
        if let Some(word) = self.bits.get_mut(at / 64)
            && *word & bit == 0
        {
            *word |= bit;
            self.count += 1;
        }
    }

    /// Removes the mark of a name.
    pub fn clear(&mut self, name: &str) {
        let Some((_, slot)) = self.index.get(name) else {
            self.others.remove(name);
            return;
        };
        let bit = 1 << (slot.at % 64);
        if let Some(word) = self.bits.get_mut(slot.at / 64)
            && *word & bit != 0
        {
            *word &= !bit;
            self.count -= 1;
        }
    }

    fn is_marked_at(&self, at: usize) -> bool {
        self.bits
            .get(at / 64)
            .is_some_and(|word| word & (1 << (at % 64)) != 0)
    }

    /// Whether exactly the names of the index are marked.
    pub fn is_exactly_all(&self) -> bool {
        self.count == self.index.len() && self.others.is_empty()
    }

    /// Names of the index that are not marked.
    pub fn unmarked(&self) -> impl Iterator<Item = &'a Arc<str>> {
        let names = self.index.iter();
        names
            .filter(|(_, slot)| !self.is_marked_at(slot.at))
            .map(|(name, _)| name)
    }

    /// The marked names as a set.
    pub fn into_set(self) -> NameSet {
        if self.count == self.index.len() {
            return NameSet {
                base: self.index.clone(),
                added: self.others,
                removed: BTreeSet::new(),
            };
        }
        if self.count > self.index.len() / 2 {
            return NameSet {
                base: self.index.clone(),
                removed: self.unmarked().cloned().collect(),
                added: self.others,
            };
        }
        let mut added = self.others.clone();
        if self.count > 0 {
            let names = self.index.iter();
            let marked = names.filter(|(_, slot)| self.is_marked_at(slot.at));
            added.extend(marked.map(|(name, _)| name.clone()));
        }
        NameSet {
            added,
            ..NameSet::default()
        }
    }
}

#[cfg(test)]
mod tests {
    use pilot_networking::{manifest::Set, resource::Resource};
    use proptest::prelude::*;

    use super::*;

    fn index(names: &BTreeSet<String>) -> Arc<Index> {
        let mut set = Set::new();
        for name in names {
            let resource = Resource::from_bytes(name.as_str(), "x".into(), []);
            set.insert(resource.name.clone(), Arc::new(resource));
        }
        Arc::new(Index::of(&set))
    }

    fn plain(set: &NameSet) -> BTreeSet<String> {
        set.iter().map(ToString::to_string).collect()
    }

    proptest! {
        #[test]
        fn a_set_is_what_was_marked_and_then_done(
            known in prop::collection::btree_set("[a-h]", 0..8),
            marked in prop::collection::vec("[a-k]", 0..12),
            done in prop::collection::vec(("[a-k]", any::<bool>()), 0..12),
            other in prop::collection::btree_set("[a-k]", 0..11),
        ) {
            let index = index(&known);
            let mut marks = Marks::new(&index);
            marked.iter().for_each(|name| marks.mark(name));
            let mut model: BTreeSet<String> = marked.into_iter().collect();
            prop_assert_eq!(marks.is_exactly_all(), model == known);
            let mut set = marks.into_set();
            prop_assert_eq!(&plain(&set), &model);
            for (name, insert) in done {
                let changed = if insert {
                    (set.insert(name.as_str().into()), model.insert(name))
                } else {
                    (set.remove(&name), model.remove(&name))
                };
                prop_assert_eq!(changed.0, changed.1);
                prop_assert_eq!(&plain(&set), &model);
                prop_assert_eq!(set.len(), model.len());
            }
            let others: NameSet = other.iter().map(String::as_str).collect();
            let lacking: BTreeSet<String> =
                set.difference(&others).iter().map(ToString::to_string).collect();
            prop_assert_eq!(lacking, model.difference(&other).cloned().collect());
        }
    }
}
