//! Metric families of statuses.

use mesh_common::metrics::Registry;
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};

/// Metric families of statuses; 1.1 had none.
#[derive(Debug, Clone)]
pub struct Metrics {
    pub(super) analysis_seconds: Histogram,
    pub(super) leader: IntGauge,
    pub(super) waiting: IntGauge,
    pub(super) pilots: IntGauge,
    left_out: IntCounter,
    pub(super) writes: IntCounter,
    pub(super) write_errors: IntCounterVec,
}

impl Metrics {
    /// Registers the metric families.
    pub fn register(registry: &Registry) -> Self {
        Self {
            analysis_seconds: registry.histogram(
                "galley_status_analysis_seconds",
                "Duration of an analysis of the whole configuration.",
                &[0.001, 0.005, 0.025, 0.1, 0.5, 2.5, 10.0],
            ),
            leader: registry.int_gauge(
                "galley_status_leader",
                "Whether this process writes statuses: 1 if it holds the Lease.",
            ),
            waiting: registry.int_gauge(
                "galley_status_waiting",
                "Objects whose status waits to be written.",
            ),
            pilots: registry.int_gauge(
                "galley_status_pilots",
                "Pilots that report which proxies hold objects.",
            ),
            left_out: registry.counter(
                "galley_status_reports_left_out_total",
                "Reports about unknown objects that exceeded the limit.",
            ),
            writes: registry.counter("galley_status_writes_total", "Statuses written."),
            write_errors: registry.counter_vec(
                "galley_status_write_errors_total",
                "Statuses that could not be written.",
                &["error"],
            ),
        }
    }

    /// `total`: since the start.
    pub(super) fn note_left_out(&self, total: u64) {
        self.left_out
            .inc_by(total.saturating_sub(self.left_out.get()));
    }
}
