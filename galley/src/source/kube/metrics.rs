use mesh_common::list_watch;
use mesh_common::metrics::{IntCounter, IntCounterVec, IntGauge, Registry};

use super::kinds::Kind;

/// Metric families of the Kubernetes source, under the names of 1.1 where 1.1 had them.
#[derive(Debug, Clone)]
pub struct Metrics {
    events: IntCounter,
    errors: IntCounterVec,
    pub(super) missing: IntGauge,
    converted: IntCounterVec,
    not_converted: IntCounterVec,
}

impl Metrics {
    /// Registers the metric families.
    pub fn register(registry: &Registry) -> Self {
        let kind = ["apiVersion", "group", "kind"];
        Self {
            events: registry.counter(
                "galley_source_kube_event_success_total",
                "Objects and deletions received from the API server.",
            ),
            errors: registry.counter_vec(
                "galley_source_kube_event_error_total",
                "Failed attempts to list or watch, by kind of failure.",
                &["error"],
            ),
            missing: registry.int_gauge(
                "galley_source_kube_missing_types",
                "Kinds that the cluster does not serve.",
            ),
            converted: registry.counter_vec(
                "galley_source_kube_dynamic_converter_success_total",
                "Objects that were read.",
                &kind,
            ),
            not_converted: registry.counter_vec(
                "galley_source_kube_dynamic_converter_failure_total",
                "Objects that cannot be used; /debug/sources has the reasons.",
                &kind,
            ),
        }
    }

    /// Counters of lists and watches.
    pub(super) fn requests(&self) -> list_watch::Metrics {
        list_watch::Metrics {
            events: self.events.clone(),
            errors: self.errors.clone(),
        }
    }

    /// Counts an object as converted or failed.
    pub(super) fn converted(&self, kind: &Kind, version: &str, is_good: bool) {
        let group = if kind.group.is_empty() {
            "core"
        } else {
            kind.group
        };
        let family = if is_good {
            &self.converted
        } else {
            &self.not_converted
        };
        family.with_label_values(&[version, group, kind.kind]).inc();
    }
}
