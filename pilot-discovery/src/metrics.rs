//! Metric families of pilot-discovery; names and buckets as Istio has them.

use std::{sync::Arc, time::Duration};

use mesh_common::metrics::Registry;
use pilot_model::{changes::Changes, snapshot::Snapshot};
use pilot_networking::gateway::SECRET_ERRORS;
use prometheus::{Gauge, GaugeVec, Histogram, HistogramVec, IntCounter, IntCounterVec};
use tonic::{Code, Status};

use pilot_xds::stream::{Response, Variant};

/// Metric that counts parts of 1.1 policies that could not be converted, also in
/// `/debug/push_status`.
pub const UNCONVERTED: &str = "pilot_unconverted_policies";

/// Handles to the families.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Connected streams by proxy version.
    pub xds: GaugeVec,
    pub services: Gauge,
    pub virtual_services: Gauge,
    pub pushes: IntCounterVec,
    pub config_size: HistogramVec,
    pub bytes_sent: IntCounterVec,
    pub resource_bytes: IntCounterVec,
    pub rejects: IntCounterVec,
    pub expired_nonce: IntCounterVec,
    pub internal_errors: IntCounter,
    pub write_timeout: IntCounter,
    /// Rejected streams, by gRPC code.
    pub refused: IntCounterVec,
    pub throttled: IntCounter,
    pub snapshot_build: Histogram,
    pub debounce: Histogram,
    pub queue: Histogram,
    pub convergence: Histogram,
    pub triggers: IntCounterVec,
    pub invalid_objects: IntCounterVec,
    pub unconverted: Gauge,
    /// Secrets that gateways refer to and cannot be sent.
    pub missing_secrets: IntCounter,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Self {
        let push_buckets = &[
            0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 3.0, 5.0, 10.0, 30.0,
        ];
        let sizes = &[1.0, 1e4, 1e6, 4e6, 1e7, 4e7];
        Self {
            xds: registry.gauge_vec("pilot_xds", "connected discovery streams", &["version"]),
            services: registry.gauge("pilot_services", "services known"),
            virtual_services: registry.gauge("pilot_virt_services", "virtual services known"),
            pushes: registry.counter_vec("pilot_xds_pushes", "responses sent", &["type"]),
            config_size: registry.histogram_vec(
                "pilot_xds_config_size_bytes",
                "size of the responses sent",
                sizes,
                &["type"],
            ),
            bytes_sent: registry.counter_vec(
                "pilot_bytes_sent_total",
                "bytes of the responses sent",
                &["type", "mode"],
            ),
            resource_bytes: registry.counter_vec(
                "pilot_xds_resource_bytes_total",
                "bytes of the resources in the responses sent; 0 for resources that a proxy holds",
                &["type"],
            ),
            rejects: registry.counter_vec(
                "pilot_total_xds_rejects",
                "responses that proxies rejected",
                &["type"],
            ),
            expired_nonce: registry.counter_vec(
                "pilot_xds_expired_nonce",
                "requests that answer an outdated response",
                &["type"],
            ),
            internal_errors: registry.counter(
                "pilot_total_xds_internal_errors",
                "streams that ended with an internal error",
            ),
            write_timeout: registry.counter(
                "pilot_xds_write_timeout",
                "streams ended because the proxy did not read",
            ),
            refused: registry.counter_vec(
                "pilot_xds_refused_streams",
                "rejected streams",
                &["code"],
            ),
            throttled: registry.counter(
                "pilot_xds_throttled_streams",
                "streams rejected because too many were opened at once",
            ),
            snapshot_build: registry.histogram(
                "pilot_snapshot_build_seconds",
                "seconds from the start of a snapshot to published views",
                push_buckets,
            ),
            debounce: registry.histogram(
                "pilot_debounce_time",
                "seconds from the first change to the start of the snapshot with it",
                push_buckets,
            ),
            queue: registry.histogram(
                "pilot_proxy_queue_time",
                "seconds from a published view until the task of a proxy receives it",
                push_buckets,
            ),
            convergence: registry.histogram(
                "pilot_proxy_convergence_time",
                "seconds from a change to the last response for it, per proxy",
                push_buckets,
            ),
            triggers: registry.counter_vec(
                "pilot_push_triggers",
                "published snapshots, by reason",
                &["type"],
            ),
            invalid_objects: registry.counter_vec(
                "pilot_mcp_invalid_objects",
                "objects that could not be decoded",
                &["collection"],
            ),
            unconverted: registry.gauge(
                UNCONVERTED,
                "parts of 1.1 policies that could not be converted",
            ),
            missing_secrets: registry.counter(
                SECRET_ERRORS,
                "secrets that gateways refer to and cannot be sent",
            ),
        }
    }

    /// Counts a stream until the result is dropped.
    pub fn connected(&self, version: &Arc<str>) -> Connected {
        let gauge = self.xds.with_label_values(&[&**version]);
        gauge.inc();
        Connected(gauge)
    }

    /// Counts a response that is sent; `size` is the size of the message in bytes.
    pub fn sent(&self, variant: Variant, response: &Response, size: usize) {
        let kind = response.kind.short();
        let mode = match variant {
            Variant::Sotw => "sotw",
            Variant::Delta => "delta",
        };
        self.pushes.with_label_values(&[kind]).inc();
        self.config_size
            .with_label_values(&[kind])
            .observe(size as f64);
        let resources = response.resources.iter();
        let bytes: usize = resources.map(|resource| resource.body.len()).sum();
        self.resource_bytes
            .with_label_values(&[kind])
            .inc_by(bytes as u64);
        self.bytes_sent
            .with_label_values(&[kind, mode])
            .inc_by(size as u64);
    }

    pub fn stream_ended(&self, status: &Status) {
        match status.code() {
            Code::Ok | Code::Cancelled => {}
            Code::Internal | Code::Unknown | Code::DataLoss => self.internal_errors.inc(),
            code => self
                .refused
                .with_label_values(&[&format!("{code:?}")])
                .inc(),
        }
    }

    pub fn snapshot_built(&self, elapsed: Duration, snapshot: &Snapshot, changes: &Changes) {
        self.snapshot_build.observe(elapsed.as_secs_f64());
        let unconverted = snapshot.unconverted.values().map(|list| list.len());
        self.unconverted.set(unconverted.sum::<usize>() as f64);
        self.services.set(snapshot.services.len() as f64);
        self.virtual_services
            .set(snapshot.virtual_services.len() as f64);
        let reason = if changes.everything {
            "global"
        } else if changes.is_endpoints_only() && !changes.endpoints.is_empty() {
            "endpoint"
        } else if !changes.services.is_empty() {
            "service"
        } else if !changes.credentials.is_empty() || !changes.rights.is_empty() {
            "secret"
        } else {
            "config"
        };
        self.triggers.with_label_values(&[reason]).inc();
    }
}

/// A connected stream in the gauge.
#[derive(Debug)]
pub struct Connected(Gauge);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.dec();
    }
}
