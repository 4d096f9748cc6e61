//! Identity of a configuration object within its kind.

use std::sync::Arc;

use crate::config::Config;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    pub namespace: Arc<str>,
    pub name: Arc<str>,
}

impl ObjectKey {
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    pub fn of<T>(config: &Config<T>) -> Self {
        Self {
            namespace: config.reference.namespace.clone(),
            name: config.reference.name.clone(),
        }
    }

    /// Whether `config` is the object of this key.
    pub fn names<T>(&self, config: &Config<T>) -> bool {
        self.namespace == config.reference.namespace && self.name == config.reference.name
    }
}
