//! A sorted map whose versions share structure.
//!
//! A change copies one path of the tree; two versions are compared in time proportional to what
//! differs between them. That is what makes one changed object cost the same among ten objects
//! and among a hundred thousand, both for the publisher and for every stream that is behind.
//!
//! The tree is a treap whose priorities are a keyed hash of the key, so the shape depends on the
//! keys alone and not on the order of changes. The hash key is random per process: nobody can
//! choose object names that make the tree deep.

use std::cmp::Ordering;
use std::hash::{BuildHasher, RandomState};
use std::sync::{Arc, LazyLock};

static HASHER: LazyLock<RandomState> = LazyLock::new(RandomState::new);

type Link<V> = Option<Arc<Node<V>>>;

#[derive(Debug, Clone)]
struct Node<V> {
    key: Arc<str>,
    priority: u64,
    value: V,
    left: Link<V>,
    right: Link<V>,
}

impl<V> Node<V> {
    /// Heap order; the key breaks ties so that the order is total.
    fn outranks(&self, other: &Self) -> bool {
        (self.priority, &self.key) > (other.priority, &other.key)
    }
}

/// Sorted map from names to values, cheap to clone. Values should be cheap to clone too (`Arc`).
#[derive(Debug, Clone)]
pub struct OrdMap<V> {
    root: Link<V>,
    len: usize,
}

impl<V> Default for OrdMap<V> {
    fn default() -> Self {
        Self { root: None, len: 0 }
    }
}

/// One difference between two maps.
#[derive(Debug, PartialEq, Eq)]
pub enum Difference<'a, V> {
    /// The key is only in the newer map.
    Added(&'a Arc<str>, &'a V),
    /// The key is in both, its value was replaced.
    Changed(&'a Arc<str>, &'a V, &'a V),
    /// The key is only in the older map.
    Removed(&'a Arc<str>, &'a V),
}

impl<V: Clone> OrdMap<V> {
    /// Number of keys.
    pub fn len(&self) -> usize {
        self.len
    }

    /// True when there is no key.
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    /// True when both are the same version (not merely equal).
    pub fn same(&self, other: &Self) -> bool {
        match (&self.root, &other.root) {
            (None, None) => true,
            (Some(a), Some(b)) => Arc::ptr_eq(a, b),
            _ => false,
        }
    }

    /// The value under `key`.
    pub fn get(&self, key: &str) -> Option<&V> {
        let mut link = &self.root;
        while let Some(node) = link {
            link = match key.cmp(&node.key) {
                Ordering::Equal => return Some(&node.value),
                Ordering::Less => &node.left,
                Ordering::Greater => &node.right,
            };
        }
        None
    }

    /// Sets `key`; the former value is returned.
    pub fn insert(&mut self, key: impl Into<Arc<str>>, value: V) -> Option<V> {
        let key = key.into();
        let priority = HASHER.hash_one(&*key);
        let node = Node {
            key,
            priority,
            value,
            left: None,
            right: None,
        };
        let former = insert(&mut self.root, node);
        self.len += usize::from(former.is_none());
        former
    }

    /// Removes `key`; the former value is returned.
    pub fn remove(&mut self, key: &str) -> Option<V> {
        // Looking first keeps a miss from copying the path.
        self.get(key)?;
        let former = remove(&mut self.root, key);
        self.len -= usize::from(former.is_some());
        former
    }

    /// All pairs in the order of their keys.
    pub fn iter(&self) -> Iter<'_, V> {
        let mut iter = Iter { stack: Vec::new() };
        iter.descend(&self.root);
        iter
    }

    /// Calls `visit` for every key whose value differs between `older` and `self`, in key order.
    /// `same` says whether two values count as equal; subtrees that both share are not entered.
    pub fn diff(
        &self,
        older: &Self,
        same: &impl Fn(&V, &V) -> bool,
        visit: &mut impl FnMut(Difference<'_, V>),
    ) {
        diff(&older.root, &self.root, same, visit);
    }
}

impl<K: Into<Arc<str>>, V: Clone> FromIterator<(K, V)> for OrdMap<V> {
    fn from_iter<I: IntoIterator<Item = (K, V)>>(pairs: I) -> Self {
        let mut map = Self::default();
        for (key, value) in pairs {
            map.insert(key, value);
        }
        map
    }
}

impl<'a, V: Clone> IntoIterator for &'a OrdMap<V> {
    type Item = (&'a Arc<str>, &'a V);
    type IntoIter = Iter<'a, V>;

    fn into_iter(self) -> Iter<'a, V> {
        self.iter()
    }
}

/// Iterator of [`OrdMap::iter`].
#[derive(Debug)]
pub struct Iter<'a, V> {
    stack: Vec<&'a Node<V>>,
}

impl<'a, V> Iter<'a, V> {
    fn descend(&mut self, mut link: &'a Link<V>) {
        while let Some(node) = link {
            self.stack.push(node);
            link = &node.left;
        }
    }
}

impl<'a, V> Iterator for Iter<'a, V> {
    type Item = (&'a Arc<str>, &'a V);

    fn next(&mut self) -> Option<Self::Item> {
        let node = self.stack.pop()?;
        self.descend(&node.right);
        Some((&node.key, &node.value))
    }
}

fn insert<V: Clone>(link: &mut Link<V>, mut new: Node<V>) -> Option<V> {
    let Some(arc) = link else {
        *link = Some(Arc::new(new));
        return None;
    };
    if arc.key == new.key {
        return Some(std::mem::replace(&mut Arc::make_mut(arc).value, new.value));
    }
    if new.outranks(arc) {
        // The key cannot be below: an equal key has an equal rank, and ranks fall downwards.
        let (left, right) = split(link.take(), &new.key);
        new.left = left;
        new.right = right;
        *link = Some(Arc::new(new));
        return None;
    }
    let node = Arc::make_mut(arc);
    let child = if new.key < node.key {
        &mut node.left
    } else {
        &mut node.right
    };
    insert(child, new)
}

fn remove<V: Clone>(link: &mut Link<V>, key: &str) -> Option<V> {
    let arc = link.as_mut()?;
    if *arc.key == *key {
        let value = arc.value.clone();
        let (left, right) = (arc.left.clone(), arc.right.clone());
        *link = merge(left, right);
        return Some(value);
    }
    let node = Arc::make_mut(arc);
    let child = if *key < *node.key {
        &mut node.left
    } else {
        &mut node.right
    };
    remove(child, key)
}

/// Keys below `key` to the left, keys above to the right; `key` itself is left out.
fn split<V: Clone>(link: Link<V>, key: &str) -> (Link<V>, Link<V>) {
    let Some(mut arc) = link else {
        return (None, None);
    };
    let node = Arc::make_mut(&mut arc);
    match key.cmp(&node.key) {
        Ordering::Equal => (node.left.take(), node.right.take()),
        Ordering::Less => {
            let (left, right) = split(node.left.take(), key);
            node.left = right;
            (left, Some(arc))
        }
        Ordering::Greater => {
            let (left, right) = split(node.right.take(), key);
            node.right = left;
            (Some(arc), right)
        }
    }
}

/// Joins two trees where every key of `left` is below every key of `right`.
fn merge<V: Clone>(left: Link<V>, right: Link<V>) -> Link<V> {
    let (mut a, mut b) = match (left, right) {
        (None, other) | (other, None) => return other,
        (Some(a), Some(b)) => (a, b),
    };
    if a.outranks(&b) {
        let node = Arc::make_mut(&mut a);
        node.right = merge(node.right.take(), Some(b));
        Some(a)
    } else {
        let node = Arc::make_mut(&mut b);
        node.left = merge(Some(a), node.left.take());
        Some(b)
    }
}

fn diff<V: Clone>(
    old: &Link<V>,
    new: &Link<V>,
    same: &impl Fn(&V, &V) -> bool,
    visit: &mut impl FnMut(Difference<'_, V>),
) {
    match (old, new) {
        (None, None) => {}
        (Some(a), Some(b)) if Arc::ptr_eq(a, b) => {}
        (Some(a), Some(b)) if a.key == b.key => {
            diff(&a.left, &b.left, same, visit);
            if !same(&a.value, &b.value) {
                visit(Difference::Changed(&b.key, &a.value, &b.value));
            }
            diff(&a.right, &b.right, same, visit);
        }
        // The higher-ranked root is missing on the other side, because there it would be the root.
        (Some(a), _) if new.as_ref().is_none_or(|b| a.outranks(b)) => {
            let (left, right) = split(new.clone(), &a.key);
            diff(&a.left, &left, same, visit);
            visit(Difference::Removed(&a.key, &a.value));
            diff(&a.right, &right, same, visit);
        }
        (_, Some(b)) => {
            let (left, right) = split(old.clone(), &b.key);
            diff(&left, &b.left, same, visit);
            visit(Difference::Added(&b.key, &b.value));
            diff(&right, &b.right, same, visit);
        }
        (Some(_), None) => {}
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    fn model_diff(
        old: &BTreeMap<String, u8>,
        new: &BTreeMap<String, u8>,
    ) -> Vec<(String, Option<u8>, Option<u8>)> {
        let mut keys: Vec<_> = old.keys().chain(new.keys()).cloned().collect();
        keys.sort();
        keys.dedup();
        keys.into_iter()
            .map(|key| {
                let (a, b) = (old.get(&key).copied(), new.get(&key).copied());
                (key, a, b)
            })
            .filter(|(_, a, b)| a != b)
            .collect()
    }

    fn map_diff(old: &OrdMap<u8>, new: &OrdMap<u8>) -> Vec<(String, Option<u8>, Option<u8>)> {
        let mut seen = Vec::new();
        new.diff(old, &|a, b| a == b, &mut |difference| {
            seen.push(match difference {
                Difference::Added(key, b) => (key.to_string(), None, Some(*b)),
                Difference::Changed(key, a, b) => (key.to_string(), Some(*a), Some(*b)),
                Difference::Removed(key, a) => (key.to_string(), Some(*a), None),
            });
        });
        seen
    }

    proptest! {
        #[test]
        fn behaves_like_a_btreemap(
            changes in prop::collection::vec((0u8..40, prop::option::of(any::<u8>())), 0..200),
            mark in 0usize..200,
        ) {
            let (mut map, mut model) = (OrdMap::default(), BTreeMap::new());
            let (mut old_map, mut old_model) = (map.clone(), model.clone());
            for (step, (key, value)) in changes.into_iter().enumerate() {
                let key = format!("k{key}");
                match value {
                    Some(value) => prop_assert_eq!(
                        map.insert(key.clone(), value), model.insert(key, value)),
                    None => prop_assert_eq!(map.remove(&key), model.remove(&key)),
                }
                prop_assert_eq!(map.len(), model.len());
                if step == mark {
                    (old_map, old_model) = (map.clone(), model.clone());
                }
            }
            let pairs: Vec<_> = map.iter().map(|(k, v)| (k.to_string(), *v)).collect();
            prop_assert_eq!(pairs, model.clone().into_iter().collect::<Vec<_>>());
            prop_assert_eq!(map_diff(&old_map, &map), model_diff(&old_model, &model));
            // The older version did not move.
            let old_pairs: Vec<_> = old_map.iter().map(|(k, v)| (k.to_string(), *v)).collect();
            prop_assert_eq!(old_pairs, old_model.into_iter().collect::<Vec<_>>());
        }
    }

    #[test]
    fn a_diff_enters_only_what_changed() {
        let old: OrdMap<u32> = (0..20_000u32).map(|i| (format!("n{i}"), i)).collect();
        let mut new = old.clone();
        new.insert("n777".to_owned(), 0);
        let compared = std::cell::Cell::new(0);
        let mut seen = 0;
        new.diff(
            &old,
            &|a, b| {
                compared.set(compared.get() + 1);
                a == b
            },
            &mut |_| seen += 1,
        );
        assert_eq!(seen, 1);
        assert!(
            compared.get() < 200,
            "{} comparisons for one change",
            compared.get()
        );
    }
}
