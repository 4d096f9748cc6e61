//! Metrics of the injector.

use mesh_common::metrics::{Gauge, Histogram, IntCounter, IntCounterVec, Registry};

const BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0,
];

/// All metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Requests received.
    pub(crate) requests: IntCounter,
    /// Requests answered, including those for skipped Pods.
    pub(crate) success: IntCounter,
    /// Requests refused.
    pub(crate) failure: IntCounter,
    /// Skipped Pods.
    pub(crate) skip: IntCounter,
    /// Duration of requests.
    pub(crate) time: Histogram,
    /// Attempts to load the configuration, by result.
    pub(crate) reloads: IntCounterVec,
    /// When the certificate expires.
    pub(crate) cert_expiry: Gauge,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        Self {
            requests: registry.counter(
                "sidecar_injection_requests_total",
                "Injection requests received",
            ),
            success: registry.counter(
                "sidecar_injection_success_total",
                "Injection requests answered, including skipped Pods",
            ),
            failure: registry.counter(
                "sidecar_injection_failure_total",
                "Injection requests refused",
            ),
            skip: registry.counter("sidecar_injection_skip_total", "Pods that were skipped"),
            time: registry.histogram(
                "sidecar_injection_time_seconds",
                "Duration of injection requests",
                &BUCKETS,
            ),
            reloads: registry.counter_vec(
                "injector_config_reload_total",
                "Attempts to load the configuration, by result (success, failure)",
                &["result"],
            ),
            cert_expiry: registry.gauge(
                "injector_cert_expiry_timestamp",
                "Unix time at which the certificate of the webhook expires",
            ),
        }
    }
}
