//! Which custom kinds the cluster has, and in which version.

use std::collections::BTreeMap;
use std::time::Instant;

use kube::core::Version;
use mesh_common::list_watch::{Closed, Event, Follower, Listed};
use serde::Deserialize;
use tokio::sync::watch;

use super::Metrics;
use super::kinds::{Kind, Presence};
use super::patience::Patience;
use super::trouble::Report;

/// A CustomResourceDefinition without its schemas, which are large and not needed.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Definition {
    metadata: Meta,
    spec: Spec,
    #[serde(default)]
    status: Status,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Meta {
    /// `plural.group`
    name: String,
    #[serde(default)]
    resource_version: String,
}

#[derive(Debug, Clone, Deserialize)]
struct Spec {
    #[serde(default)]
    versions: Vec<Served>,
}

#[derive(Debug, Clone, Deserialize)]
struct Served {
    name: String,
    #[serde(default)]
    served: bool,
    #[serde(default)]
    storage: bool,
}

#[derive(Debug, Clone, Default, Deserialize)]
struct Status {
    conditions: Option<Vec<Condition>>,
}

#[derive(Debug, Clone, Deserialize)]
struct Condition {
    r#type: String,
    status: String,
}

impl Listed for Definition {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

impl Definition {
    fn is_established(&self) -> bool {
        let conditions = self.status.conditions.iter().flatten();
        let mut established = conditions.filter(|condition| condition.r#type == "Established");
        established.any(|condition| condition.status == "True")
    }

    /// The stored version if it is served and known, else the newest that is.
    fn presence(&self, kind: &Kind) -> Presence {
        if !self.is_established() {
            return Presence::Absent;
        }
        let served = self.spec.versions.iter().filter_map(|version| {
            let mut known = kind.versions.iter();
            let known = known.find(|known| **known == version.name && version.served)?;
            Some((version.storage, Version::parse(known).priority(), *known))
        });
        served.max().map_or(Presence::Absent, |(_, _, version)| {
            Presence::Served(version)
        })
    }
}

#[derive(Debug)]
struct Row {
    kind: Kind,
    presence: watch::Sender<Presence>,
    is_listed: bool,
}

/// Reports to the tasks of the custom kinds whether the cluster serves them.
#[derive(Debug)]
pub(super) struct Definitions {
    /// By `plural.group`.
    rows: BTreeMap<String, Row>,
    patience: Patience,
    metrics: Metrics,
    report: Report,
}

impl Definitions {
    pub(super) fn new(patience: Patience, metrics: Metrics, report: Report) -> Self {
        Self {
            rows: BTreeMap::new(),
            patience,
            metrics,
            report,
        }
    }

    pub(super) fn add(&mut self, kind: Kind, presence: watch::Sender<Presence>) {
        let row = Row {
            kind,
            presence,
            is_listed: false,
        };
        self.rows
            .insert(format!("{}.{}", kind.plural, kind.group), row);
    }

    fn set(&mut self, definition: &Definition) {
        if let Some(row) = self.rows.get_mut(&definition.metadata.name) {
            row.is_listed = true;
            let presence = definition.presence(&row.kind);
            if presence == Presence::Absent && definition.is_established() {
                let (kind, known) = (row.kind.kind, row.kind.versions.join(", "));
                tracing::warn!(kind, known, "the cluster serves no known version of a kind");
            }
            row.set(presence);
        }
    }

    /// Updates the metric of missing kinds.
    fn count(&self) {
        let rows = self.rows.values();
        let missing = rows.filter(|row| *row.presence.borrow() == Presence::Absent);
        let missing = i64::try_from(missing.count()).unwrap_or(i64::MAX);
        self.metrics.missing.set(missing);
    }

    /// Marks all matching kinds as absent.
    fn settle(&mut self, is_gone: impl Fn(&Row) -> bool) {
        let mut missing = Vec::new();
        for row in self.rows.values().filter(|row| is_gone(row)) {
            if *row.presence.borrow() == Presence::Unknown {
                missing.push(row.kind.kind);
            }
            row.set(Presence::Absent);
        }
        if !missing.is_empty() {
            let kinds = missing.join(", ");
            tracing::info!(kinds, "the cluster does not have these kinds (yet)");
        }
    }
}

impl Row {
    fn set(&self, presence: Presence) {
        self.presence.send_if_modified(|known| {
            let is_new = *known != presence;
            if is_new && *known != Presence::Unknown {
                tracing::info!(
                    kind = self.kind.kind,
                    ?presence,
                    "the version of a kind that the cluster serves has changed"
                );
            }
            *known = presence;
            is_new
        });
    }
}

impl Follower<Definition> for Definitions {
    async fn take(&mut self, event: Event<'_, Definition>) -> Result<(), Closed> {
        match event {
            Event::Started => {
                let rows = self.rows.values_mut();
                rows.for_each(|row| row.is_listed = false);
            }
            Event::Page(definitions) => {
                definitions
                    .iter()
                    .for_each(|definition| self.set(definition));
            }
            Event::Complete => {
                self.settle(|row| !row.is_listed);
                self.patience.done();
            }
            Event::Applied(definition) => self.set(&definition),
            Event::Deleted(definition) => {
                if let Some(row) = self.rows.get(&definition.metadata.name) {
                    row.set(Presence::Absent);
                }
            }
            Event::Failed(failure) => {
                self.report.tell(Some(failure)).await;
                if failure.is_refusal() && self.patience.refused(Instant::now()) {
                    tracing::warn!(
                        "cannot read CustomResourceDefinitions: their kinds count as missing"
                    );
                    self.settle(|row| *row.presence.borrow() == Presence::Unknown);
                }
            }
            Event::Works => self.report.tell(None).await,
        }
        self.count();
        Ok(())
    }

    fn wake(&self) -> Option<Instant> {
        self.patience.deadline()
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::source::kube::kinds;

    fn presence(established: &str, versions: &[(&str, bool, bool)]) -> Presence {
        let versions: Vec<_> = versions
            .iter()
            .map(|(name, served, storage)| {
                json!({"name": name, "served": served, "storage": storage, "schema": {"a": [1]}})
            })
            .collect();
        let definition: Definition = serde_json::from_value(json!({
            "metadata": {"name": "gateways.networking.istio.io", "resourceVersion": "1"},
            "spec": {"group": "networking.istio.io", "versions": versions},
            "status": {"conditions": [{"type": "Established", "status": established}]},
        }))
        .unwrap();
        let none = std::collections::BTreeSet::new();
        let kind = kinds::wanted(&none).find(|kind| kind.kind == "Gateway");
        definition.presence(&kind.unwrap())
    }

    #[test]
    fn the_stored_version_is_read_else_the_newest() {
        let all = [
            ("v1alpha3", true, true),
            ("v1beta1", true, false),
            ("v1", true, false),
        ];
        assert_eq!(presence("True", &all), Presence::Served("v1alpha3"));
        assert_eq!(presence("False", &all), Presence::Absent);
        let not_stored = [
            ("v1alpha3", true, false),
            ("v1beta1", true, false),
            ("v2", true, true),
        ];
        assert_eq!(presence("True", &not_stored), Presence::Served("v1beta1"));
        let not_served = [("v1", false, true), ("v1alpha3", true, false)];
        assert_eq!(presence("True", &not_served), Presence::Served("v1alpha3"));
        assert_eq!(presence("True", &[("v3", true, true)]), Presence::Absent);
    }
}
