//! Metric families of the webhook, under the names of 1.1.

use istio_api::collections::COLLECTIONS;
use mesh_common::metrics::Registry;
use prometheus::{IntCounter, IntCounterVec, IntGauge};

use super::review::{Answer, Outcome};

/// Label value for unknown kinds: anybody may send requests, which must not make labels grow.
const OTHER: &str = "other";

/// Metric families of the webhook.
#[derive(Debug, Clone)]
pub struct Metrics {
    passed: IntCounterVec,
    failed: IntCounterVec,
    pub(super) http_error: IntCounterVec,
    pub(super) cert_key_updates: IntCounter,
    pub(super) cert_key_update_errors: IntCounterVec,
    pub(super) cert_expiry: IntGauge,
}

impl Metrics {
    /// Registers the metric families.
    pub fn register(registry: &Registry) -> Self {
        let resource = ["group", "version", "resource"];
        Self {
            passed: registry.counter_vec(
                "galley_validation_passed",
                "Objects that were accepted.",
                &resource,
            ),
            failed: registry.counter_vec(
                "galley_validation_failed",
                "Objects that were rejected.",
                &["group", "version", "resource", "reason"],
            ),
            http_error: registry.counter_vec(
                "galley_validation_http_error",
                "Requests that could not be answered with an AdmissionReview.",
                &["status"],
            ),
            cert_key_updates: registry.counter(
                "galley_validation_cert_key_updates",
                "Certificates loaded, including the first one.",
            ),
            cert_key_update_errors: registry.counter_vec(
                "galley_validation_cert_key_update_errors",
                "Certificates that could not be loaded.",
                &["error"],
            ),
            cert_expiry: registry.int_gauge(
                "galley_validation_cert_expiry_timestamp_seconds",
                "Expiry time of the webhook's certificate, in seconds since the epoch.",
            ),
        }
    }

    /// Counts a response.
    pub(super) fn count(&self, answer: &Answer) {
        let known = COLLECTIONS
            .iter()
            .find(|row| row.group == answer.group && row.plural == answer.resource);
        let version = known.and_then(|row| {
            let mut versions = row.versions.iter().copied();
            versions.find(|version| *version == answer.version)
        });
        let labels = [
            known.map_or(OTHER, |row| row.group),
            version.unwrap_or(OTHER),
            known.map_or(OTHER, |row| row.plural),
        ];
        match &answer.outcome {
            Outcome::Passed => self.passed.with_label_values(&labels).inc(),
            Outcome::Refused(reason) => {
                let [group, version, resource] = labels;
                let labels = [group, version, resource, reason.as_str()];
                self.failed.with_label_values(&labels).inc();
            }
        }
    }
}
