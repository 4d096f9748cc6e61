//! What one proxy is to hold.

use std::{sync::Arc, time::Instant};

use pilot_networking::{
    kind::Kind,
    manifest::{Difference, Manifests, Set, differences},
    resource::Resource,
};

/// What one proxy is to hold: what its clients share and what its servers share. Their names
/// never meet.
#[derive(Clone, Debug, Default)]
pub struct View {
    /// What it sees as a client.
    pub outbound: Arc<Manifests>,
    /// What it serves.
    pub inbound: Arc<Manifests>,
    /// Version of the snapshot that both were made from.
    pub version: u64,
    /// `None` in the view that a stream begins with.
    pub times: Option<Times>,
}

/// When a view came about; for metrics only.
#[derive(Clone, Copy, Debug)]
pub struct Times {
    /// The first of its changes arrived.
    pub changed: Instant,
    /// The view was published.
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
    /// What it sees as a client.
    pub outbound: Set,
    /// What it serves.
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

    /// Certainly the same; decided at a glance.
    pub fn is_same(&self, other: &Self) -> bool {
        self.outbound.ptr_eq(&other.outbound) && self.inbound.ptr_eq(&other.inbound)
    }

    /// Those whose names are let through.
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

    /// Keeps a resource that is in neither.
    pub fn keep(&mut self, resource: Arc<Resource>) {
        self.outbound.insert(resource.name.clone(), resource);
    }

    /// What leads from here to `new`.
    pub fn differences(&self, new: &Self) -> Vec<Difference> {
        let mut all = differences(&self.outbound, &new.outbound);
        all.extend(differences(&self.inbound, &new.inbound));
        all
    }

    /// Number of entries.
    pub fn len(&self) -> usize {
        self.outbound.len() + self.inbound.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
