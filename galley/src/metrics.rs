//! Metric families of galley itself; `mesh_common::mcp::source::Metrics` has those of MCP.

use std::collections::BTreeMap;

use mesh_common::metrics::Registry;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge, IntGaugeVec};

/// Metric families, under the names of 1.1 where 1.1 had them.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(crate) on_change: IntCounter,
    pub(crate) max_time_reached: IntCounter,
    pub(crate) quiesce_reached: IntCounter,
    pub(crate) timer_resets: IntCounter,
    pub(crate) event_span: Histogram,
    pub(crate) events_processed: IntCounter,
    pub(crate) snapshots_published: IntCounter,
    pub(crate) snapshot_events: Histogram,
    pub(crate) snapshot_lifetime: Histogram,
    instances: IntGaugeVec,
    pub(crate) files: IntGauge,
    pub(crate) problems: IntGauge,
    pub(crate) problems_total: IntCounterVec,
    pub(crate) withheld: IntGauge,
    pub(crate) last_change: IntGauge,
}

impl Metrics {
    /// Registers the metric families, including those of the configured source.
    pub fn register(registry: &Registry, is_kubernetes: bool) -> Self {
        let [files, help, problems, problems_total] = if is_kubernetes {
            [
                "galley_source_kube_objects",
                "Objects read from the cluster.",
                "galley_source_kube_problems",
                "galley_source_kube_problems_total",
            ]
        } else {
            [
                "galley_source_fs_files",
                "Configuration files.",
                "galley_source_fs_problems",
                "galley_source_fs_problems_total",
            ]
        };
        let powers = |count: usize| -> Vec<f64> {
            let powers = std::iter::successors(Some(1.0), |bound| Some(bound * 2.0)).take(count);
            std::iter::once(0.0).chain(powers).collect()
        };
        let (spans, events) = (powers(24), powers(9));
        Self {
            on_change: registry.counter(
                "galley_runtime_strategy_on_change_total",
                "Changes seen by the debouncer.",
            ),
            max_time_reached: registry.counter(
                "galley_runtime_strategy_timer_max_time_reached_total",
                "Snapshots published at the maximum delay, while changes went on.",
            ),
            quiesce_reached: registry.counter(
                "galley_runtime_strategy_timer_quiesce_reached_total",
                "Snapshots published after changes had ended.",
            ),
            timer_resets: registry.counter(
                "galley_runtime_strategy_timer_resets_total",
                "Changes that delayed a pending snapshot.",
            ),
            event_span: registry.histogram(
                "galley_runtime_processor_event_span_duration_milliseconds",
                "Time between updates of the source.",
                &spans,
            ),
            events_processed: registry.counter(
                "galley_runtime_processor_events_processed_total",
                "Objects that changed.",
            ),
            snapshots_published: registry.counter(
                "galley_runtime_processor_snapshots_published_total",
                "Snapshots published.",
            ),
            snapshot_events: registry.histogram(
                "galley_runtime_processor_snapshot_events_total",
                "Changed objects per snapshot.",
                &events,
            ),
            snapshot_lifetime: registry.histogram(
                "galley_runtime_processor_snapshot_lifetime_duration_milliseconds",
                "Time between snapshots.",
                &spans,
            ),
            instances: registry.int_gauge_vec(
                "galley_runtime_state_type_instances_total",
                "Objects held.",
                &["collection"],
            ),
            files: registry.int_gauge(files, help),
            problems: registry.int_gauge(problems, "Present problems; /debug/sources lists them."),
            problems_total: registry.counter_vec(
                problems_total,
                "Problems reported, by severity.",
                &["severity"],
            ),
            withheld: registry.int_gauge(
                "galley_processing_endpoints_with_no_pods",
                "Endpoints withheld because their Pod is not known.",
            ),
            last_change: registry.int_gauge(
                "galley_runtime_last_publish_timestamp_seconds",
                "Time of the last published snapshot, in seconds since the epoch.",
            ),
        }
    }

    /// Sets the number of objects by collection; collections that are missing in `counts` become 0.
    pub(crate) fn instances(
        &self,
        counts: &BTreeMap<&str, usize>,
        known: &mut BTreeMap<String, ()>,
    ) {
        for name in known
            .keys()
            .filter(|name| !counts.contains_key(name.as_str()))
        {
            self.instances.with_label_values(&[name.as_str()]).set(0);
        }
        for (name, count) in counts {
            let count = i64::try_from(*count).unwrap_or(i64::MAX);
            self.instances.with_label_values(&[*name]).set(count);
            if !known.contains_key(*name) {
                known.insert((*name).to_owned(), ());
            }
        }
    }
}
