//! Metrics, under Istio's names.

use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use mesh_common::metrics::{HistogramVec, IntCounter, IntCounterVec, Registry};
use mesh_common::{list_watch, tls};
use prometheus::core::{Collector, Desc};
use prometheus::proto::MetricFamily;
use prometheus::{Gauge, IntGauge};
use tonic::{Code, Status};

use crate::ca::{self, Authority};

/// Upper bounds of `grpc_server_handling_seconds`.
const SECONDS: [f64; 12] = [
    0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0,
];

const CODES: [Code; 17] = [
    Code::Ok,
    Code::Cancelled,
    Code::Unknown,
    Code::InvalidArgument,
    Code::DeadlineExceeded,
    Code::NotFound,
    Code::AlreadyExists,
    Code::PermissionDenied,
    Code::ResourceExhausted,
    Code::FailedPrecondition,
    Code::Aborted,
    Code::OutOfRange,
    Code::Unimplemented,
    Code::Internal,
    Code::Unavailable,
    Code::DataLoss,
    Code::Unauthenticated,
];

/// A gRPC method, as labels.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Method {
    pub(crate) service: &'static str,
    pub(crate) name: &'static str,
}

/// `CreateCertificate`.
pub(crate) const CREATE_CERTIFICATE: Method = Method {
    service: "istio.v1.auth.IstioCertificateService",
    name: "CreateCertificate",
};

/// `HandleCSR`.
pub(crate) const HANDLE_CSR: Method = Method {
    service: "istio.v1.auth.IstioCAService",
    name: "HandleCSR",
};

/// All metrics.
#[derive(Clone, Debug)]
pub(crate) struct Metrics {
    pub(crate) csr: IntCounter,
    pub(crate) authentication_failures: IntCounter,
    pub(crate) csr_parsing_errors: IntCounter,
    pub(crate) id_extraction_errors: IntCounter,
    sign_errors: IntCounterVec,
    pub(crate) issued: IntCounter,
    pub(crate) reloads: IntCounterVec,
    control_plane_writes: IntCounterVec,
    pub(crate) reviews: HistogramVec,
    pub(crate) root_map_errors: IntCounter,
    pub(crate) lists: list_watch::Metrics,
    started: IntCounterVec,
    handled: IntCounterVec,
    received: IntCounterVec,
    sent: IntCounterVec,
    seconds: HistogramVec,
}

impl Metrics {
    pub(crate) fn new(registry: &Registry) -> Self {
        let method = ["grpc_type", "grpc_service", "grpc_method"];
        let with_code = ["grpc_type", "grpc_service", "grpc_method", "grpc_code"];
        let metrics = Self {
            csr: registry.counter("citadel_server_csr_count", "Signing requests received"),
            authentication_failures: registry.counter(
                "citadel_server_authentication_failure_count",
                "Callers that could not be authenticated",
            ),
            csr_parsing_errors: registry.counter(
                "citadel_server_csr_parsing_err_count",
                "Signing requests that could not be parsed",
            ),
            id_extraction_errors: registry.counter(
                "citadel_server_id_extraction_err_count",
                "Signing requests of HandleCSR without subject alternative names",
            ),
            sign_errors: registry.counter_vec(
                "citadel_server_csr_sign_err_count",
                "Signing requests refused, by kind of error",
                &["error"],
            ),
            issued: registry.counter(
                "citadel_server_success_cert_issuance_count",
                "Certificates issued",
            ),
            reloads: registry.counter_vec(
                "citadel_ca_reload_count",
                "Changes of the authority's certificates, by result",
                &["result"],
            ),
            control_plane_writes: registry.counter_vec(
                "citadel_control_plane_cert_writes",
                "Certificates written for the control plane, by component and result",
                &["component", "result"],
            ),
            reviews: registry.histogram_vec(
                "citadel_token_review_seconds",
                "Duration of token reviews, by result",
                &SECONDS,
                &["result"],
            ),
            root_map_errors: registry.counter(
                "citadel_root_configmap_errors_total",
                "Failed attempts to write a ConfigMap with the roots",
            ),
            lists: list_watch::Metrics {
                events: registry.counter(
                    "citadel_kube_event_success_total",
                    "Changes and deletions of objects received from the API server",
                ),
                errors: registry.counter_vec(
                    "citadel_kube_event_error_total",
                    "Failed attempts to list or watch, by kind of failure",
                    &["error"],
                ),
            },
            started: registry.counter_vec("grpc_server_started_total", "RPCs started", &method),
            handled: registry.counter_vec(
                "grpc_server_handled_total",
                "RPCs completed, by code",
                &with_code,
            ),
            received: registry.counter_vec(
                "grpc_server_msg_received_total",
                "Messages received",
                &method,
            ),
            sent: registry.counter_vec("grpc_server_msg_sent_total", "Messages sent", &method),
            seconds: registry.histogram_vec(
                "grpc_server_handling_seconds",
                "Duration of RPCs",
                &SECONDS,
                &method,
            ),
        };
        metrics.prepare();
        metrics
    }

    /// All series exist from the start, with the value zero.
    fn prepare(&self) {
        for label in ca::Error::LABELS {
            let _ = self.sign_errors.with_label_values(&[label]);
        }
        for result in ["success", "failure"] {
            let _ = self.reloads.with_label_values(&[result]);
        }
        for result in ["accepted", "refused", "failed"] {
            let _ = self.reviews.with_label_values(&[result]);
        }
        for Method { service, name } in [CREATE_CERTIFICATE, HANDLE_CSR] {
            let labels = ["unary", service, name];
            for family in [&self.started, &self.received, &self.sent] {
                let _ = family.with_label_values(&labels);
            }
            let _ = self.seconds.with_label_values(&labels);
            for code in CODES {
                let _ = self
                    .handled
                    .with_label_values(&["unary", service, name, code_name(code)]);
            }
        }
    }

    /// Counts a certificate for a process of the control plane.
    pub(crate) fn control_plane_written(&self, component: &str, is_written: bool) {
        let result = if is_written { "success" } else { "failure" };
        self.control_plane_writes
            .with_label_values(&[component, result])
            .inc();
    }

    /// Counts a refused request.
    pub(crate) fn refused(&self, error: &ca::Error) {
        self.sign_errors.with_label_values(&[error.label()]).inc();
    }

    /// Starts measuring an RPC. Dropped without [`Call::done`] it counts as cancelled.
    pub(crate) fn call(&self, method: Method) -> Call<'_> {
        let labels = ["unary", method.service, method.name];
        self.started.with_label_values(&labels).inc();
        self.received.with_label_values(&labels).inc();
        Call {
            metrics: self,
            method,
            start: Instant::now(),
            code: Code::Cancelled,
        }
    }
}

/// An RPC in progress.
#[derive(Debug)]
pub(crate) struct Call<'a> {
    metrics: &'a Metrics,
    method: Method,
    start: Instant,
    code: Code,
}

impl Call<'_> {
    /// Records the status code and returns the result.
    pub(crate) fn done<T>(mut self, result: Result<T, Status>) -> Result<T, Status> {
        self.code = match &result {
            Ok(_) => Code::Ok,
            Err(status) => status.code(),
        };
        result
    }
}

impl Drop for Call<'_> {
    fn drop(&mut self) {
        let Method { service, name } = self.method;
        let labels = ["unary", service, name];
        if self.code == Code::Ok {
            self.metrics.sent.with_label_values(&labels).inc();
        }
        self.metrics
            .handled
            .with_label_values(&["unary", service, name, code_name(self.code)])
            .inc();
        self.metrics
            .seconds
            .with_label_values(&labels)
            .observe(self.start.elapsed().as_secs_f64());
    }
}

/// Names of status codes in Go's gRPC.
fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "Canceled",
        Code::Unknown => "Unknown",
        Code::InvalidArgument => "InvalidArgument",
        Code::DeadlineExceeded => "DeadlineExceeded",
        Code::NotFound => "NotFound",
        Code::AlreadyExists => "AlreadyExists",
        Code::PermissionDenied => "PermissionDenied",
        Code::ResourceExhausted => "ResourceExhausted",
        Code::FailedPrecondition => "FailedPrecondition",
        Code::Aborted => "Aborted",
        Code::OutOfRange => "OutOfRange",
        Code::Unimplemented => "Unimplemented",
        Code::Internal => "Internal",
        Code::Unavailable => "Unavailable",
        Code::DataLoss => "DataLoss",
        Code::Unauthenticated => "Unauthenticated",
    }
}

/// Expiry of the authority's certificates, computed at each scrape.
pub(crate) struct Expiry {
    authority: Arc<Authority>,
    root_timestamp: Gauge,
    root_seconds: Gauge,
    root_count: IntGauge,
    chain_timestamp: Gauge,
    chain_seconds: Gauge,
}

impl Expiry {
    #[expect(clippy::expect_used, reason = "constant names, made once at the start")]
    pub(crate) fn new(authority: Arc<Authority>) -> Self {
        let gauge = |name: &str, help: &str| Gauge::new(name, help).expect("constant name");
        Self {
            authority,
            root_timestamp: gauge(
                "citadel_server_root_cert_expiry_timestamp",
                "Expiry of the first root certificate, seconds since the epoch",
            ),
            root_seconds: gauge(
                "citadel_server_root_cert_expiry_seconds",
                "Time to the expiry of the first root certificate",
            ),
            root_count: IntGauge::new("citadel_server_root_cert_count", "Root certificates")
                .expect("constant name"),
            chain_timestamp: gauge(
                "citadel_server_cert_chain_expiry_timestamp",
                "Expiry of the first intermediate certificate, seconds since the epoch",
            ),
            chain_seconds: gauge(
                "citadel_server_cert_chain_expiry_seconds",
                "Time to the expiry of the first intermediate certificate",
            ),
        }
    }
}

fn set(timestamp: &Gauge, seconds: &Gauge, end: SystemTime) {
    timestamp.set(
        end.duration_since(UNIX_EPOCH)
            .unwrap_or_default()
            .as_secs_f64(),
    );
    let left = match end.duration_since(SystemTime::now()) {
        Ok(left) => left.as_secs_f64(),
        Err(over) => -over.duration().as_secs_f64(),
    };
    seconds.set(left);
}

impl Collector for Expiry {
    fn desc(&self) -> Vec<&Desc> {
        [
            self.root_timestamp.desc(),
            self.root_seconds.desc(),
            self.root_count.desc(),
            self.chain_timestamp.desc(),
            self.chain_seconds.desc(),
        ]
        .concat()
    }

    fn collect(&self) -> Vec<MetricFamily> {
        let bundle = self.authority.bundle();
        let end = |der: Option<&rustls_pki_types::CertificateDer<'_>>| {
            der.and_then(|der| tls::not_after(der))
        };
        let mut families = Vec::new();
        self.root_count
            .set(i64::try_from(bundle.roots().len()).unwrap_or(i64::MAX));
        families.extend(self.root_count.collect());
        if let Some(end) = end(bundle.roots().first()) {
            set(&self.root_timestamp, &self.root_seconds, end);
            families.extend(self.root_timestamp.collect());
            families.extend(self.root_seconds.collect());
        }
        if let Some(end) = end(bundle.chain().first()) {
            set(&self.chain_timestamp, &self.chain_seconds, end);
            families.extend(self.chain_timestamp.collect());
            families.extend(self.chain_seconds.collect());
        }
        families
    }
}

/// Half of the remaining lifetime of a certificate, at least one second.
pub(crate) fn half_life(not_after: SystemTime, now: SystemTime) -> Duration {
    (not_after.duration_since(now).unwrap_or_default() / 2).max(Duration::from_secs(1))
}
