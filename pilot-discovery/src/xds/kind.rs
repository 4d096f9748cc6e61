//! The resource types that are served.

use std::{sync::Arc, time::Instant};

use pilot_networking::{
    manifest::{Difference, Index, Manifests, Set, differences},
    resource::Resource,
};

/// A served type, in the order of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    Cluster,
    Endpoint,
    Listener,
    Route,
    Secret,
}

impl Kind {
    pub const ALL: [Self; 5] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::Route,
        Self::Secret,
    ];

    pub fn type_url(self) -> &'static str {
        match self {
            Self::Cluster => "type.googleapis.com/envoy.config.cluster.v3.Cluster",
            Self::Endpoint => "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
            Self::Listener => "type.googleapis.com/envoy.config.listener.v3.Listener",
            Self::Route => "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
            Self::Secret => "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        }
    }

    pub fn from_type_url(url: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.type_url() == url)
    }

    /// Short name, as metrics and pages write it.
    pub fn short(self) -> &'static str {
        match self {
            Self::Cluster => "cds",
            Self::Endpoint => "eds",
            Self::Listener => "lds",
            Self::Route => "rds",
            Self::Secret => "sds",
        }
    }

    /// Subscribed to as a whole unless names are given.
    pub fn is_wildcard(self) -> bool {
        matches!(self, Self::Cluster | Self::Listener)
    }

    /// Place in [`Self::ALL`].
    pub fn index_of(self) -> usize {
        self as usize
    }

    /// Names and versions of this type in `manifests`.
    pub fn index_in(self, manifests: &Manifests) -> &Arc<Index> {
        let indices = &manifests.indices;
        let slot = match self {
            Self::Cluster => &indices.clusters,
            Self::Endpoint => &indices.endpoints,
            Self::Listener => &indices.listeners,
            Self::Route => &indices.routes,
            Self::Secret => &indices.secrets,
        };
        slot.get_or_init(|| Arc::new(Index::of(self.of(manifests))))
    }

    /// The resources of this type in `manifests`.
    pub fn of(self, manifests: &Manifests) -> &Set {
        match self {
            Self::Cluster => &manifests.clusters,
            Self::Endpoint => &manifests.endpoints,
            Self::Listener => &manifests.listeners,
            Self::Route => &manifests.routes,
            Self::Secret => &manifests.secrets,
        }
    }
}

/// What one proxy is to hold: what its clients share and what its servers share. Their names
/// never meet.
#[derive(Clone, Debug, Default)]
pub struct View {
    pub outbound: Arc<Manifests>,
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
    pub published: Instant,
}

impl View {
    pub fn sets(&self, kind: Kind) -> Sets {
        Sets {
            outbound: kind.of(&self.outbound).clone(),
            inbound: kind.of(&self.inbound).clone(),
        }
    }

    /// The resource `name` of this type.
    pub fn get(&self, kind: Kind, name: &str) -> Option<&Arc<Resource>> {
        let outbound = kind.of(&self.outbound).get(name);
        outbound.or_else(|| kind.of(&self.inbound).get(name))
    }
}

/// The resources of one type in a view; cheap to keep.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    pub outbound: Set,
    pub inbound: Set,
}

impl Sets {
    pub fn get(&self, name: &str) -> Option<&Arc<Resource>> {
        self.outbound.get(name).or_else(|| self.inbound.get(name))
    }

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

    pub fn len(&self) -> usize {
        self.outbound.len() + self.inbound.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}
