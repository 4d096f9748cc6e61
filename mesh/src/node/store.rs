//! The applied objects. Written by the controller only; everybody may read.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::RwLock;
use serde_json::Value;

use crate::manifest::Key;

/// What the API server would hold: objects by key, as they were applied.
#[derive(Clone, Debug, Default)]
pub struct Store {
    objects: Arc<RwLock<BTreeMap<Key, Arc<Value>>>>,
}

/// What an apply did to one object.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Outcome {
    /// It was not there before.
    Created,
    /// It was there with other contents.
    Configured,
    /// It was there with the same contents.
    Unchanged,
    /// It is gone now.
    Deleted,
}

impl Store {
    /// Adds or replaces an object.
    pub fn put(&self, key: Key, value: Value) -> Outcome {
        let mut objects = self.objects.write();
        match objects.insert(key, Arc::new(value)).as_deref() {
            None => Outcome::Created,
            Some(_) => Outcome::Configured,
        }
    }

    /// Adds or replaces an object unless it is there with the same contents.
    pub fn apply(&self, key: Key, value: Value) -> Outcome {
        if self
            .objects
            .read()
            .get(&key)
            .is_some_and(|held| **held == value)
        {
            return Outcome::Unchanged;
        }
        self.put(key, value)
    }

    /// Removes an object; false when it was not there.
    pub fn remove(&self, key: &Key) -> bool {
        self.objects.write().remove(key).is_some()
    }

    /// One object.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<Value>> {
        self.objects.read().get(key).cloned()
    }

    /// All objects of a kind, in order of namespace and name.
    #[must_use]
    pub fn of_kind(&self, group: &str, kind: &str) -> Vec<(Key, Arc<Value>)> {
        self.objects
            .read()
            .iter()
            .filter(|(key, _)| key.group == group && key.kind == kind)
            .map(|(key, value)| (key.clone(), Arc::clone(value)))
            .collect()
    }

    /// Everything.
    #[must_use]
    pub fn all(&self) -> Vec<(Key, Arc<Value>)> {
        self.objects
            .read()
            .iter()
            .map(|(key, value)| (key.clone(), Arc::clone(value)))
            .collect()
    }

    /// A label of a Namespace object.
    #[must_use]
    pub fn namespace_label(&self, namespace: &str, label: &str) -> Option<String> {
        let object = self.get(&Key::core("Namespace", "", namespace))?;
        object
            .get("metadata")?
            .get("labels")?
            .get(label)?
            .as_str()
            .map(str::to_owned)
    }
}
