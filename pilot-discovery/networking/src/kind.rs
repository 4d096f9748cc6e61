//! The resource types that pilot serves. Everything about a type is here: a new one is a variant
//! and its row.

use std::{
    array,
    ops::{Index, IndexMut},
};

/// A served type, in the order of a push.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Kind {
    /// `envoy.config.cluster.v3.Cluster`
    Cluster,
    /// `envoy.config.endpoint.v3.ClusterLoadAssignment`
    Endpoint,
    /// `envoy.config.listener.v3.Listener`
    Listener,
    /// `envoy.config.route.v3.RouteConfiguration`
    Route,
    /// `envoy.extensions.transport_sockets.tls.v3.Secret`
    Secret,
}

/// Properties of a type.
struct Row {
    kind: Kind,
    type_url: &'static str,
    short: &'static str,
    noun: &'static str,
    is_wildcard: bool,
}

/// In the order of [`Kind`], which a test checks.
const ROWS: [Row; Kind::COUNT] = [
    Row {
        kind: Kind::Cluster,
        type_url: "type.googleapis.com/envoy.config.cluster.v3.Cluster",
        short: "cds",
        noun: "cluster",
        is_wildcard: true,
    },
    Row {
        kind: Kind::Endpoint,
        type_url: "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment",
        short: "eds",
        noun: "endpoint",
        is_wildcard: false,
    },
    Row {
        kind: Kind::Listener,
        type_url: "type.googleapis.com/envoy.config.listener.v3.Listener",
        short: "lds",
        noun: "listener",
        is_wildcard: true,
    },
    Row {
        kind: Kind::Route,
        type_url: "type.googleapis.com/envoy.config.route.v3.RouteConfiguration",
        short: "rds",
        noun: "route",
        is_wildcard: false,
    },
    Row {
        kind: Kind::Secret,
        type_url: "type.googleapis.com/envoy.extensions.transport_sockets.tls.v3.Secret",
        short: "sds",
        noun: "secret",
        is_wildcard: false,
    },
];

impl Kind {
    /// Number of types.
    pub const COUNT: usize = 5;

    /// All types, in the order of a push.
    pub const ALL: [Self; Self::COUNT] = [
        Self::Cluster,
        Self::Endpoint,
        Self::Listener,
        Self::Route,
        Self::Secret,
    ];

    #[expect(clippy::indexing_slicing, reason = "every type has a row")]
    fn row(self) -> &'static Row {
        &ROWS[self.index_of()]
    }

    /// Type URL of the resources (xDS `type_url`).
    pub fn type_url(self) -> &'static str {
        self.row().type_url
    }

    /// The type with this URL, if it is served.
    pub fn from_type_url(url: &str) -> Option<Self> {
        let mut rows = ROWS.iter();
        rows.find(|row| row.type_url == url).map(|row| row.kind)
    }

    /// Short name, as metrics and pages write it: `cds`.
    pub fn short(self) -> &'static str {
        self.row().short
    }

    /// One resource of the type in words: `cluster`.
    pub fn noun(self) -> &'static str {
        self.row().noun
    }

    /// Whether a subscription without names means all resources of the type.
    pub fn is_wildcard(self) -> bool {
        self.row().is_wildcard
    }

    /// Position in [`Self::ALL`].
    pub fn index_of(self) -> usize {
        self as usize
    }
}

/// One value per type.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct ByKind<T>([T; Kind::COUNT]);

impl<T> ByKind<T> {
    /// Builds the value of each type.
    pub fn from_fn(mut value: impl FnMut(Kind) -> T) -> Self {
        let mut kinds = Kind::ALL.into_iter();
        Self(array::from_fn(|_| {
            // There are exactly as many kinds as array elements.
            value(kinds.next().unwrap_or(Kind::Cluster))
        }))
    }

    /// Every type with its value.
    pub fn iter(&self) -> impl Iterator<Item = (Kind, &T)> {
        Kind::ALL.into_iter().zip(&self.0)
    }
}

#[expect(clippy::indexing_slicing, reason = "every type has a place")]
impl<T> Index<Kind> for ByKind<T> {
    type Output = T;

    fn index(&self, kind: Kind) -> &T {
        &self.0[kind.index_of()]
    }
}

#[expect(clippy::indexing_slicing, reason = "every type has a place")]
impl<T> IndexMut<Kind> for ByKind<T> {
    fn index_mut(&mut self, kind: Kind) -> &mut T {
        &mut self.0[kind.index_of()]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_type_has_its_row() {
        for (at, kind) in Kind::ALL.into_iter().enumerate() {
            assert_eq!((kind.index_of(), kind.row().kind), (at, kind));
            assert_eq!(Kind::from_type_url(kind.type_url()), Some(kind));
        }
        assert_eq!(Kind::from_type_url("type.googleapis.com/other"), None);
    }
}
