//! What a source serves: an immutable set of collections, each a version and its resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use istio_api::mcp::v1alpha1::{Metadata, Resource};

/// Resources by name. Sharing is by `Arc`: a resource is encoded once, whoever receives it.
/// Versions of a map share structure: a change costs the same among ten resources and among a
/// hundred thousand, for the publisher and for every stream that is behind.
pub type Resources = OrdMap<Arc<str>, Arc<Resource>>;

/// One collection at one moment.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// Opaque; differs whenever `resources` differ. `"0"` for a collection that never had any.
    pub version: Arc<str>,
    /// The resources under their names (`namespace/name`, or `name` when cluster-scoped).
    pub resources: Resources,
}

/// All collections at one moment. Cloning costs one reference per collection.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    collections: BTreeMap<Arc<str>, Collection>,
}

impl Snapshot {
    /// The collection of that name; `None` when this source has never heard of it.
    pub fn get(&self, collection: &str) -> Option<&Collection> {
        self.collections.get(collection)
    }

    /// The collection of that name, to be changed. Other clones of the snapshot do not see it.
    pub fn get_mut(&mut self, collection: &str) -> Option<&mut Collection> {
        self.collections.get_mut(collection)
    }

    /// Sets a collection.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, collection: Collection) {
        self.collections.insert(name.into(), collection);
    }

    /// All collections in the order of their names.
    pub fn iter(&self) -> impl Iterator<Item = (&Arc<str>, &Collection)> {
        self.collections.iter()
    }

    /// Number of resources in all collections.
    pub fn resources(&self) -> usize {
        self.collections
            .values()
            .map(|collection| collection.resources.len())
            .sum()
    }
}

/// The metadata of a resource; a missing one reads as empty.
pub(super) fn metadata(resource: &Resource) -> &Metadata {
    static NONE: Metadata = Metadata {
        name: String::new(),
        create_time: None,
        version: String::new(),
        labels: BTreeMap::new(),
        annotations: BTreeMap::new(),
    };
    resource.metadata.as_ref().unwrap_or(&NONE)
}
