//! The state that a source serves: an immutable set of collections, each a version and its
//! resources.

use std::collections::BTreeMap;
use std::sync::Arc;

use imbl::OrdMap;
use istio_api::mcp::v1alpha1::{Metadata, Resource};

/// Resources by name, shared by `Arc`: a resource is encoded once for all receivers. Versions of a
/// map share structure: the cost of a change does not depend on the number of resources, for the
/// publisher and for every stream that is behind.
pub type Resources = OrdMap<Arc<str>, Arc<Resource>>;

/// One collection at one moment.
#[derive(Debug, Clone, Default)]
pub struct Collection {
    /// Opaque; differs whenever `resources` differ. `"0"` for a collection that never had a
    /// resource.
    pub version: Arc<str>,
    /// The resources by name (`namespace/name`, or `name` if cluster-scoped).
    pub resources: Resources,
}

/// All collections at one moment. Cloning costs one reference per collection.
#[derive(Debug, Clone, Default)]
pub struct Snapshot {
    collections: BTreeMap<Arc<str>, Collection>,
}

impl Snapshot {
    /// The collection of this name; `None` if the source does not know it.
    pub fn get(&self, collection: &str) -> Option<&Collection> {
        self.collections.get(collection)
    }

    /// The collection of this name, mutable. Clones of the snapshot are not affected.
    pub fn get_mut(&mut self, collection: &str) -> Option<&mut Collection> {
        self.collections.get_mut(collection)
    }

    /// Sets a collection.
    pub fn insert(&mut self, name: impl Into<Arc<str>>, collection: Collection) {
        self.collections.insert(name.into(), collection);
    }

    /// All collections, ordered by name.
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

/// The metadata of a resource; empty if it has none.
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
