//! Policies with the Services that they are for.

use std::collections::BTreeMap;

use crate::conversion::{Mesh, Source};
use istio_api::authentication::v1alpha1::{Policy, TargetSelector};

/// A policy whose targets are looked up by host.
#[derive(Debug, Clone, PartialEq)]
pub struct Targeting {
    source: Source<Policy>,
    /// Indices of targets.
    by_host: BTreeMap<String, Vec<usize>>,
}

impl Targeting {
    /// Resolves the names of its targets; a MeshPolicy has none.
    #[must_use]
    pub fn new(source: Source<Policy>, mesh: &Mesh<'_>) -> Self {
        let mut by_host: BTreeMap<String, Vec<usize>> = BTreeMap::new();
        if source.kind != "MeshPolicy" {
            for (i, target) in source.spec.targets.iter().enumerate() {
                let mut host = target.name.to_ascii_lowercase();
                if !host.contains('.') {
                    host = format!("{host}.{}.svc.{}", source.meta.namespace, mesh.domain);
                }
                by_host.entry(host).or_default().push(i);
            }
        }
        Self { source, by_host }
    }

    /// The policy.
    #[must_use]
    pub fn source(&self) -> &Source<Policy> {
        &self.source
    }

    /// Full names of the Services; none when it is for a namespace or the mesh.
    pub fn hosts(&self) -> impl Iterator<Item = &str> {
        self.by_host.keys().map(String::as_str)
    }

    /// Whether it is for a namespace or the mesh.
    #[must_use]
    pub fn is_for_all(&self) -> bool {
        self.by_host.is_empty()
    }

    /// The targets that are this Service, with their paths.
    pub(super) fn at(&self, host: &str) -> impl Iterator<Item = (String, &TargetSelector)> {
        let indices = self.by_host.get(host).map_or(&[][..], Vec::as_slice);
        indices.iter().filter_map(|i| {
            let target = self.source.spec.targets.get(*i)?;
            Some((format!("spec.targets[{i}]"), target))
        })
    }
}
