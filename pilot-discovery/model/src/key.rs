//! Identity of a configuration object within its kind.

use std::sync::Arc;

use crate::config::Config;

/// Namespace and name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ObjectKey {
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
    /// Name inside the namespace.
    pub name: Arc<str>,
}

impl ObjectKey {
    /// The key `namespace/name`.
    pub fn new(namespace: &str, name: &str) -> Self {
        Self {
            namespace: namespace.into(),
            name: name.into(),
        }
    }

    /// The key of an object.
    pub fn of<T>(config: &Config<T>) -> Self {
        Self {
            namespace: config.reference.namespace.clone(),
            name: config.reference.name.clone(),
        }
    }

    /// Whether this is the key of `config`.
    pub fn names<T>(&self, config: &Config<T>) -> bool {
        self.namespace == config.reference.namespace && self.name == config.reference.name
    }
}
