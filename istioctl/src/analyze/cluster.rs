//! Objects of a cluster that analyzers look at.

use std::collections::BTreeSet;

use anyhow::Result;
use istio_rules::analysis::{Builder, Unusable, istio_kinds, kubernetes};

use crate::cluster::{Cluster, Kind, Listed};

/// Kinds of which nothing was read.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// The cluster does not know them, so it has none.
    unknown: BTreeSet<&'static str>,
    /// The user must not see them.
    forbidden: BTreeSet<&'static str>,
}

impl Absent {
    /// Whether the cluster's objects of a kind were read.
    pub(super) fn knows(&self, kind: &str) -> bool {
        !self.unknown.contains(kind) && !self.forbidden.contains(kind)
    }

    /// Tells the builder, once it has the files' objects: what the cluster does not know may be in
    /// the files, but what it hides could be anything.
    pub(super) fn apply(&self, builder: &mut Builder) {
        for kind in &self.unknown {
            if !builder.holds(kind) {
                builder.without(kind);
            }
        }
        for kind in &self.forbidden {
            builder.without(kind);
        }
    }

    /// Says why analyzers were skipped that would run for somebody else.
    pub(super) fn warn(&self, skipped: &[&str]) {
        if !self.forbidden.is_empty() && !skipped.is_empty() {
            let kinds: Vec<&str> = self.forbidden.iter().copied().collect();
            eprintln!(
                "Warning: you may not list {} here, so {} analyzers were skipped (-v names them)",
                kinds.join(", "),
                skipped.len()
            );
        }
    }
}

#[derive(Default)]
struct Found {
    builder: Builder,
    unusable: Vec<Unusable>,
}

/// Reads every kind, one after the other.
pub(super) async fn read(
    cluster: &Cluster,
    istio_namespace: &str,
    builder: &mut Builder,
) -> Result<Absent> {
    let mut absent = Absent::default();
    let native = kubernetes::KINDS.iter().map(|row| {
        // Of config maps only the control plane's are of use.
        let namespace = (row.1 == "ConfigMap").then_some(istio_namespace);
        (row.0, &["v1"][..], row.1, row.2, namespace)
    });
    let istio = istio_kinds().map(|row| (row.group, row.versions, row.kind, row.plural, None));
    for (group, versions, kind, plural, namespace) in native.chain(istio) {
        let asked = Kind {
            group,
            versions,
            kind,
            plural,
        };
        let add = |found: &mut Found, object| {
            let unusable = found.builder.read(&object, None);
            found.unusable.extend(unusable);
        };
        match cluster.list(asked, namespace, add).await? {
            Listed::Read(Found {
                builder: of_kind,
                unusable,
            }) => {
                builder.append(of_kind);
                for Unusable { object, error, .. } in unusable {
                    let field = &error.path;
                    eprintln!("Warning: {object} is left out: {field}: {error}");
                }
            }
            Listed::Unknown => {
                absent.unknown.insert(kind);
            }
            Listed::Forbidden => {
                absent.forbidden.insert(kind);
            }
        }
    }
    Ok(absent)
}
