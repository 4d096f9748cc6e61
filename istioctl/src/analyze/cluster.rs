//! The objects of a cluster that analyzers need.

use std::collections::BTreeSet;

use anyhow::Result;
use istio_rules::analysis::{Builder, Unusable, istio_kinds, kubernetes};

use crate::cluster::{Cluster, Kind, Listed};

/// Kinds that could not be read.
#[derive(Debug, Default)]
pub(super) struct Absent {
    /// Kinds that the cluster does not know, and thus has no objects of.
    unknown: BTreeSet<&'static str>,
    /// Kinds that the user may not list.
    forbidden: BTreeSet<&'static str>,
}

impl Absent {
    /// Whether the cluster's objects of a kind are known.
    pub(super) fn knows(&self, kind: &str) -> bool {
        !self.unknown.contains(kind) && !self.forbidden.contains(kind)
    }

    /// Passes the missing kinds to the builder, after the files' objects were added: kinds that the
    /// cluster does not know are complete with the files' objects, but forbidden ones are not.
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

    /// Warns about analyzers that were skipped for lack of permissions.
    pub(super) fn warn(&self, skipped: &[&str]) {
        if !self.forbidden.is_empty() && !skipped.is_empty() {
            let kinds: Vec<&str> = self.forbidden.iter().copied().collect();
            eprintln!(
                "Warning: no permission to list {}, so {} analyzers were skipped (see -v)",
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

/// Reads all kinds, one after the other.
pub(super) async fn read(
    cluster: &Cluster,
    istio_namespace: &str,
    builder: &mut Builder,
) -> Result<Absent> {
    let mut absent = Absent::default();
    let native = kubernetes::KINDS.iter().map(|row| {
        // Only the control plane's ConfigMaps are needed.
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
                    eprintln!("Warning: {object} is ignored: {field}: {error}");
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
