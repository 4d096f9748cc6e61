//! Metric families of the injector.

use mesh_common::metrics::{Gauge, Histogram, IntCounter, IntCounterVec, Registry};

const BUCKETS: [f64; 12] = [
    0.005, 0.01, 0.025, 0.05, 0.1, 1.0, 3.0, 5.0, 10.0, 20.0, 30.0, 60.0,
];

/// Handles to all families.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    /// Requests received.
    pub(crate) requests: IntCounter,
    /// Requests answered, Pods left alone included.
    pub(crate) success: IntCounter,
    /// Requests refused.
    pub(crate) failure: IntCounter,
    /// Pods left alone.
    pub(crate) skip: IntCounter,
    /// Time to make an answer.
    pub(crate) time: Histogram,
    /// Attempts to take a new configuration, by result.
    pub(crate) reloads: IntCounterVec,
    /// When the certificate ends.
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
                "Injection requests answered, Pods that stay as they are included",
            ),
            failure: registry.counter(
                "sidecar_injection_failure_total",
                "Injection requests refused",
            ),
            skip: registry.counter("sidecar_injection_skip_total", "Pods that stay as they are"),
            time: registry.histogram(
                "sidecar_injection_time_seconds",
                "Time to make the answer to an injection request",
                &BUCKETS,
            ),
            reloads: registry.counter_vec(
                "injector_config_reload_total",
                "Attempts to take a new configuration, by result (success, failure)",
                &["result"],
            ),
            cert_expiry: registry.gauge(
                "injector_cert_expiry_timestamp",
                "Unix time at which the certificate of the webhook ends",
            ),
        }
    }
}
