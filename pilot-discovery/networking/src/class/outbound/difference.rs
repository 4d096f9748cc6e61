//! How the manifests of a class come to differ from the last ones: by as little as can be, since what
//! stays untouched is neither compared nor sent.

use std::{collections::BTreeMap, sync::Arc};

use imbl::OrdMap;

use crate::{
    manifest::{Manifests, Set, put},
    resource::{Built, Resource, Skipped},
};

/// Makes the set what was built; gives what was left out.
pub(super) fn replace_all(set: &mut Set, built: Built) -> Vec<Skipped> {
    let resources: Vec<Arc<Resource>> = built.resources.into_iter().map(Arc::new).collect();
    let old: Vec<Arc<Resource>> = set.values().cloned().collect();
    exchange(set, &old, &resources);
    built.skipped
}

/// Takes `old` out of the set and puts `new` in; what is in both stays untouched.
pub(super) fn exchange<'a>(
    set: &mut Set,
    old: impl IntoIterator<Item = &'a Arc<Resource>>,
    new: impl IntoIterator<Item = &'a Arc<Resource>>,
) {
    let new: BTreeMap<&Arc<str>, &Arc<Resource>> = new
        .into_iter()
        .map(|resource| (&resource.name, resource))
        .collect();
    for resource in old {
        if !new.contains_key(&resource.name) {
            set.remove(&resource.name);
        }
    }
    for resource in new.into_values() {
        put(set, resource.clone());
    }
}

/// Puts `new` in its place and gives what was there; `None` when it is there already, and then
/// changes nothing, so that forks go on sharing.
pub(super) fn replace<K: Ord + Clone, T>(
    map: &mut OrdMap<K, Arc<T>>,
    key: &K,
    new: Option<&Arc<T>>,
) -> Option<Option<Arc<T>>> {
    match (map.get(key), new) {
        (None, None) => None,
        (Some(old), Some(new)) if Arc::ptr_eq(old, new) => None,
        (_, Some(new)) => Some(map.insert(key.clone(), new.clone())),
        (_, None) => Some(map.remove(key)),
    }
}

/// Keeps what one unit of work left out; nothing when it left out nothing.
pub(super) fn note<'a>(
    next: &mut Manifests,
    unit: String,
    skipped: impl IntoIterator<Item = &'a Skipped>,
) {
    let skipped: Arc<[Skipped]> = skipped.into_iter().cloned().collect();
    if skipped.is_empty() {
        // Looked up first: removing copies nodes even when there is nothing to remove.
        if next.skipped.contains_key(unit.as_str()) {
            next.skipped.remove(unit.as_str());
        }
    } else {
        next.skipped.insert(unit.into(), skipped);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_already_is_not_touched() {
        let value = Arc::new(1);
        let mut map = OrdMap::unit("a", value.clone());
        let before = map.clone();
        assert_eq!(replace(&mut map, &"a", Some(&value)), None);
        assert_eq!(replace(&mut map, &"b", None), None);
        assert!(map.ptr_eq(&before));
        let other = Arc::new(1);
        assert_eq!(replace(&mut map, &"a", Some(&other)), Some(Some(value)));
        assert_eq!(replace(&mut map, &"a", None), Some(Some(other)));
        assert!(map.is_empty());
    }

    #[test]
    fn nothing_is_noted_of_a_unit_that_left_out_nothing() {
        let mut next = Manifests::default();
        let before = next.clone();
        note(&mut next, "unit".to_owned(), &[]);
        assert!(next.skipped.ptr_eq(&before.skipped));
        let one = Skipped {
            metric: "metric",
            reason: "reason".to_owned(),
            source: None,
        };
        note(&mut next, "unit".to_owned(), [&one]);
        assert_eq!(next.skipped.get("unit").map(|all| all.len()), Some(1));
        note(&mut next, "unit".to_owned(), &[]);
        assert!(next.skipped.is_empty());
    }
}
