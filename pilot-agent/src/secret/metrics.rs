//! What the certificate side counts.

use mesh_common::metrics::{Gauge, GaugeVec, IntCounter, IntCounterVec, Registry};

/// Handles of the metrics; names carry the agent's prefix.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Requests to the authority.
    pub requests: IntCounterVec,
    /// Requests that failed in the end.
    pub failures: IntCounterVec,
    /// Repeated attempts.
    pub retries: IntCounterVec,
    /// Sum of the time spent, ms.
    pub latency: GaugeVec,
    /// Seconds until a certificate ends; negative after that.
    pub expiry: GaugeVec,
    /// Files that could not be read as certificates.
    pub file_failures: IntCounter,
    /// Refused pushes.
    pub rejected: IntCounter,
    /// Open secret streams.
    pub streams: Gauge,
}

impl Metrics {
    /// Registers everything.
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
                "Time of requests to the authority in ms, sum",
                labels,
            ),
            expiry: registry.gauge_vec(
                "istio_agent_cert_expiry_seconds",
                "Seconds until the certificate ends",
                &["resource_name"],
            ),
            file_failures: registry.counter(
                "istio_agent_num_file_secret_failures_total",
                "Certificate files that could not be used",
            ),
            rejected: registry.counter(
                "istio_agent_sds_rejections_total",
                "Secrets that Envoy refused",
            ),
            streams: registry.gauge("istio_agent_sds_streams", "Open secret streams"),
        }
    }
}
