//! The resources that one proxy should hold.

use std::{sync::Arc, time::Instant};

use pilot_networking::{
    kind::Kind,
    manifest::{Difference, Manifests, Set, differences},
    resource::Resource,
};

/// The resources that one proxy should hold: those of its outbound and of its inbound class. The
/// names of the two are disjoint.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// Resources of its outbound class.
    pub outbound: Arc<Manifests>,
    /// Resources of its inbound class.
    pub inbound: Arc<Manifests>,
    /// Version of the snapshot that both were built from.
    pub version: u64,
    /// `None` in the first view of a stream.
    pub times: Option<Times>,
}

/// When a view was made; for metrics only.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// When the first of its changes arrived.
    pub changed: Instant,
    /// When the view was published.
    pub published: Instant,
}

impl View {
    /// The resources of one type.
    pub fn sets(&self, kind: Kind) -> Sets {
        Sets {
            outbound: self.outbound[kind].clone(),
            inbound: self.inbound[kind].clone(),
        }
    }

    /// The resource `name` of this type.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        let outbound = self.outbound[kind].get(name);
        outbound.or_else(|| self.inbound[kind].get(name))
    }
}

/// The resources of one type in a view; cheap to keep.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    /// Resources of the outbound class.
    pub outbound: Set,
    /// Resources of the inbound class.
    pub inbound: Set,
}

impl Sets {
    /// The resource with this name.
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.outbound.get(name).or_else(|| self.inbound.get(name))
    }

    /// All resources.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Resource>> {
        self.outbound.values().chain(self.inbound.values())
    }

    /// Whether both are known to be equal, without comparing resources.
    pub fn is_same(&self, other: &Self) -> bool {
        self.outbound.ptr_eq(&other.outbound) && self.inbound.ptr_eq(&other.inbound)
    }

    /// The resources whose names `wanted` accepts.
    pub fn only(&self, wanted: impl Fn(&str) -> bool) -> Self {
        let of = |set: &Set| {
            let wanted = set.iter().filter(|(name, _)| wanted(name));
            wanted
                .map(|(name, resource)| (name.clone(), resource.clone()))
                .collect()
        };
        Self {
            outbound: of(&self.outbound),
            inbound: of(&self.inbound),
        }
    }

    /// Adds a resource that is in neither set.
    pub fn keep(&mut self, resource: Arc<Resource>) {
        self.outbound.insert(resource.name.clone(), resource);
    }

    /// What changes from here to `new`.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut all = differences(&self.outbound, &new.outbound);
        all.extend(differences(&self.inbound, &new.inbound));
        all
    }

    /// Number of resources.
    pub fn len(&self) -> usize {
        self.outbound.len() + self.inbound.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
