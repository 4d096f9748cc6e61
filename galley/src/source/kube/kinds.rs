//! The kinds that are read from a cluster, and their API paths.

use std::collections::BTreeSet;

use istio_api::collections::{COLLECTIONS, Collection};
use mesh_common::list_watch::Target;

use galley_engine::native::INGRESS_GROUP;

/// A kind in the API.
#[derive(Debug, Clone, Copy)]
pub(super) struct Kind {
    pub(super) group: &'static str,
    pub(super) kind: &'static str,
    pub(super) plural: &'static str,
    /// Known versions, which galley can read.
    pub(super) versions: &'static [&'static str],
    /// Whether it exists only with its CustomResourceDefinition.
    pub(super) is_custom: bool,
    /// Number of objects per page.
    pub(super) page: u32,
}

/// Whether the cluster serves a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Presence {
    /// Not known yet.
    Unknown,
    /// The cluster does not serve it.
    Absent,
    /// The cluster serves it in this version.
    Served(&'static str),
}

/// The page size of client-go.
const PAGE: u32 = 500;
/// Definitions include their schemas and are large.
const DEFINITIONS_PAGE: u32 = 50;

const fn native(group: &'static str, kind: &'static str, plural: &'static str) -> Kind {
    Kind {
        group,
        kind,
        plural,
        versions: &["v1"],
        is_custom: false,
        page: PAGE,
    }
}

/// Kinds that every cluster has.
const NATIVE: [Kind; 7] = [
    native("", "Endpoints", "endpoints"),
    native("", "Node", "nodes"),
    native("", "Pod", "pods"),
    native("", "Service", "services"),
    native("discovery.k8s.io", "EndpointSlice", "endpointslices"),
    native(INGRESS_GROUP, "Ingress", "ingresses"),
    native(INGRESS_GROUP, "IngressClass", "ingressclasses"),
];

/// CustomResourceDefinitions.
pub(super) const DEFINITIONS: Kind = Kind {
    page: DEFINITIONS_PAGE,
    ..native(
        "apiextensions.k8s.io",
        "CustomResourceDefinition",
        "customresourcedefinitions",
    )
};

impl From<&Collection> for Kind {
    fn from(row: &Collection) -> Self {
        Self {
            group: row.group,
            kind: row.kind,
            plural: row.plural,
            versions: row.versions,
            is_custom: true,
            page: PAGE,
        }
    }
}

fn all() -> impl Iterator<Item = Kind> {
    NATIVE.into_iter().chain(COLLECTIONS.iter().map(Kind::from))
}

/// Every kind that is read, except for the excluded ones.
pub(super) fn wanted(excluded: &BTreeSet<String>) -> impl Iterator<Item = Kind> {
    all().filter(|kind| !excluded.contains(kind.kind))
}

/// The names in `excluded` that are not known kinds.
pub(super) fn unknown(excluded: &BTreeSet<String>) -> impl Iterator<Item = &str> {
    let excluded = excluded.iter().map(String::as_str);
    excluded.filter(|name| !name.is_empty() && all().all(|kind| kind.kind != *name))
}

impl Kind {
    /// Presence before anything is read.
    pub(super) fn presence(&self) -> Presence {
        match self.versions.first() {
            Some(version) if !self.is_custom => Presence::Served(version),
            _ => Presence::Unknown,
        }
    }

    /// `group/plural`, or `plural` in the core group.
    pub(super) fn folder(&self) -> String {
        if self.group.is_empty() {
            self.plural.to_owned()
        } else {
            format!("{}/{}", self.group, self.plural)
        }
    }

    pub(super) fn api_version(&self, version: &str) -> String {
        if self.group.is_empty() {
            version.to_owned()
        } else {
            format!("{}/{version}", self.group)
        }
    }

    /// All objects of the kind, in a version.
    pub(super) fn target(&self, version: &str) -> Target {
        Target {
            url: self.url(version),
            page: self.page,
            fields: None,
        }
    }

    /// API path of all objects of the kind.
    fn url(&self, version: &str) -> String {
        let root = if self.group.is_empty() { "api" } else { "apis" };
        format!("/{root}/{}/{}", self.api_version(version), self.plural)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_those_of_the_api() {
        let excluded = BTreeSet::from(["Endpoints".to_owned(), "Wrong".to_owned()]);
        let urls: Vec<_> = wanted(&excluded).map(|kind| kind.url("v1")).collect();
        assert!(urls.contains(&"/api/v1/pods".to_owned()));
        assert!(urls.contains(&"/apis/networking.istio.io/v1/gateways".to_owned()));
        assert!(!urls.contains(&"/api/v1/endpoints".to_owned()));
        assert_eq!(unknown(&excluded).collect::<Vec<_>>(), ["Wrong"]);
        assert_eq!(
            DEFINITIONS.url("v1"),
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions"
        );
    }
}
