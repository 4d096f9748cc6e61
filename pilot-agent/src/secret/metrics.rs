//! Metrics of certificates.

use mesh_common::metrics::{Gauge, GaugeVec, IntCounter, IntCounterVec, Registry};

/// Metrics; their names have the agent's prefix.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Requests to the authority.
    pub requests: IntCounterVec,
    /// Requests that failed after all attempts.
    pub failures: IntCounterVec,
    /// Repeated attempts.
    pub retries: IntCounterVec,
    /// Sum of the request durations, in ms.
    pub latency: GaugeVec,
    /// Seconds until a certificate expires; negative afterwards.
    pub expiry: GaugeVec,
    /// Files that could not be read as certificates.
    pub file_failures: IntCounter,
    /// Pushes that Envoy rejected.
    pub rejected: IntCounter,
    /// Open secret streams.
    pub streams: Gauge,
}

impl Metrics {
    /// Registers all metrics.
    #[must_use]
    pub fn new(registry: &Registry) -> Self {
        let labels = &["request_type"];
        Self {
            requests: registry.counter_vec(
                "istio_agent_num_outgoing_requests",
                "Requests to the authority",
                labels,
            ),
            failures: registry.counter_vec(
                "istio_agent_num_failed_outgoing_requests",
                "Requests to the authority that failed",
                labels,
            ),
            retries: registry.counter_vec(
                "istio_agent_num_outgoing_retries",
                "Repeated requests to the authority",
                labels,
            ),
            latency: registry.gauge_vec(
                "istio_agent_outgoing_latency",
                "Total duration of requests to the authority in ms",
                labels,
            ),
            expiry: registry.gauge_vec(
                "istio_agent_cert_expiry_seconds",
                "Seconds until the certificate expires",
                &["resource_name"],
            ),
            file_failures: registry.counter(
                "istio_agent_num_file_secret_failures_total",
                "Certificate files that could not be used",
            ),
            rejected: registry.counter(
                "istio_agent_sds_rejections_total",
                "Secrets that Envoy rejected",
            ),
            streams: registry.gauge("istio_agent_sds_streams", "Open secret streams"),
        }
    }
}
