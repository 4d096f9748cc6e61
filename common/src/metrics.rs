//! Metrics under the names of Istio, in the Prometheus text format.

mod process;

use prometheus::core::Collector;
pub use prometheus::{
    Counter, CounterVec, Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec,
    IntGauge, IntGaugeVec,
};
use prometheus::{HistogramOpts, Opts, TextEncoder};

use crate::version;

/// The metrics of one process. Clones share them.
///
/// The methods that create a metric also register it. They panic if the name is invalid or taken:
/// names are constants, so that any start of the process finds the mistake.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    inner: prometheus::Registry,
}

impl Registry {
    /// Without any metrics; for tests and libraries.
    #[must_use]
    pub fn empty() -> Self {
        Self::default()
    }

    /// With `process_*`, tokio metrics and `istio_build{component,tag}`.
    #[must_use]
    pub fn new(component: &str) -> Self {
        let registry = Self::default();
        registry.register(process::Process::new());
        registry
            .int_gauge_vec(
                "istio_build",
                "Build that is running",
                &["component", "tag"],
            )
            .with_label_values(&[component, version::INFO.tag])
            .set(1);
        registry
    }

    /// The registry of the `prometheus` crate, for custom collectors.
    #[must_use]
    pub fn prometheus(&self) -> &prometheus::Registry {
        &self.inner
    }

    /// Adds a collector.
    ///
    /// # Panics
    /// If one of its names is taken.
    pub fn register(&self, collector: impl Collector + 'static) {
        if let Err(error) = self.inner.register(Box::new(collector)) {
            panic!("metric cannot be registered: {error}");
        }
    }

    fn add<C: Collector + Clone + 'static>(&self, name: &str, made: prometheus::Result<C>) -> C {
        match made {
            Ok(metric) => {
                self.register(metric.clone());
                metric
            }
            Err(error) => panic!("metric {name} cannot be created: {error}"),
        }
    }

    /// A counter of events.
    #[must_use]
    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        self.add(name, IntCounter::new(name, help))
    }

    /// Counters with labels.
    #[must_use]
    pub fn counter_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntCounterVec {
        self.add(name, IntCounterVec::new(Opts::new(name, help), labels))
    }

    /// A gauge of floating-point numbers.
    #[must_use]
    pub fn gauge(&self, name: &str, help: &str) -> Gauge {
        self.add(name, Gauge::new(name, help))
    }

    /// Gauges with labels.
    #[must_use]
    pub fn gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> GaugeVec {
        self.add(name, GaugeVec::new(Opts::new(name, help), labels))
    }

    /// A gauge of integers.
    #[must_use]
    pub fn int_gauge(&self, name: &str, help: &str) -> IntGauge {
        self.add(name, IntGauge::new(name, help))
    }

    /// Gauges of integers with labels.
    #[must_use]
    pub fn int_gauge_vec(&self, name: &str, help: &str, labels: &[&str]) -> IntGaugeVec {
        self.add(name, IntGaugeVec::new(Opts::new(name, help), labels))
    }

    /// A histogram; `buckets` are ascending upper bounds, in the unit of the metric.
    #[must_use]
    pub fn histogram(&self, name: &str, help: &str, buckets: &[f64]) -> Histogram {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(name, Histogram::with_opts(opts))
    }

    /// Histograms with labels.
    #[must_use]
    pub fn histogram_vec(
        &self,
        name: &str,
        help: &str,
        buckets: &[f64],
        labels: &[&str],
    ) -> HistogramVec {
        let opts = HistogramOpts::new(name, help).buckets(buckets.to_vec());
        self.add(name, HistogramVec::new(opts, labels))
    }

    /// All metrics in the Prometheus text format 0.0.4.
    #[must_use]
    pub fn text(&self) -> String {
        let mut out = String::new();
        if let Err(error) = TextEncoder::new().encode_utf8(&self.inner.gather(), &mut out) {
            // Only collectors with inconsistent families cause this.
            tracing::error!(error = %error, "cannot encode metrics");
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_come_out_unchanged() {
        let registry = Registry::empty();
        registry
            .counter("citadel_server_csr_count", "Requests")
            .inc();
        registry
            .counter_vec("pilot_xds_pushes", "Pushes", &["type"])
            .with_label_values(&["cds"])
            .inc_by(2);
        let text = registry.text();
        assert!(text.contains("\ncitadel_server_csr_count 1\n"), "{text}");
        assert!(
            text.contains("\npilot_xds_pushes{type=\"cds\"} 2\n"),
            "{text}"
        );
    }

    #[test]
    fn a_process_has_its_own_metrics() {
        let text = Registry::new("citadel").text();
        for name in [
            "process_cpu_seconds_total",
            "process_open_fds",
            "process_max_fds",
            "process_resident_memory_bytes",
            "process_virtual_memory_bytes",
            "process_start_time_seconds",
            "process_threads",
            "istio_build{component=\"citadel\"",
        ] {
            assert!(
                text.contains(&format!("\n{name}")),
                "{name} is missing in\n{text}"
            );
        }
    }

    #[test]
    #[should_panic(expected = "metric cannot be registered")]
    fn a_name_is_taken_once() {
        let registry = Registry::empty();
        let _ = registry.counter("a", "A");
        let _ = registry.counter("a", "A");
    }
}
