//! The resource types that are served.

use std::sync::Arc;

use pilot_networking::manifest::{Difference, Manifests, Set, differences};

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

    pub fn index(self) -> usize {
        self as usize
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
}

impl View {
    pub fn sets(&self, kind: Kind) -> Sets {
        Sets {
            outbound: kind.of(&self.outbound).clone(),
            inbound: kind.of(&self.inbound).clone(),
        }
    }
}

/// The resources of one type in a view; cheap to keep.
#[derive(Clone, Debug, Default)]
pub struct Sets {
    pub outbound: Set,
    pub inbound: Set,
}

impl Sets {
    pub fn get(&self, name: &str) -> Option<&Arc<pilot_networking::resource::Resource>> {
        self.outbound.get(name).or_else(|| self.inbound.get(name))
    }

    pub fn iter(&self) -> impl Iterator<Item = &Arc<pilot_networking::resource::Resource>> {
        self.outbound.values().chain(self.inbound.values())
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
