//! The client of the certificate authority.

use std::{
    io,
    path::PathBuf,
    time::{Duration, SystemTime},
};

use http::Uri;
use hyper_util::rt::TokioIo;
use istio_api::ca::IstioCertificateRequest;
use mesh_common::grpc::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use nix::sys::socket::{setsockopt, sockopt};
use tokio::net::{TcpSocket, TcpStream, lookup_host};
use tonic::{
    Code, Request, Status,
    metadata::{AsciiMetadataKey, AsciiMetadataValue},
    transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity},
};
use tower::service_fn;

use super::{Workload, metrics::Metrics};
use crate::bootstrap::HostPort;

/// Maximum number of attempts per request.
const ATTEMPTS: u32 = 5;
/// Timeout of one attempt.
const ATTEMPT_TIMEOUT: Duration = Duration::from_secs(10);
/// Delay before the second attempt; doubles each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
/// Label of signing requests in the metrics.
const CSR: &str = "csr";
/// System CA bundles of Linux distributions.
pub const SYSTEM_BUNDLES: [&str; 8] = [
    "/etc/ssl/certs/ca-certificates.crt",
    "/etc/pki/tls/certs/ca-bundle.crt",
    "/etc/ssl/ca-bundle.pem",
    "/etc/pki/tls/cacert.pem",
    "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem",
    "/etc/ssl/cert.pem",
    "/usr/local/etc/ssl/cert.pem",
    "/etc/ssl/certs/ca-certificates",
];

/// How to reach the authority and authenticate to it.
#[derive(Debug, Clone)]
pub struct Client {
    /// host:port.
    pub address: HostPort,
    /// Roots that verify its certificate; read for every connection.
    pub root: PathBuf,
    /// The token, read for every request; `None` to send none.
    pub token: Option<PathBuf>,
    /// Directory with a certificate that is always presented.
    pub provisioned: Option<PathBuf>,
    /// Metadata of every request.
    pub metadata: Vec<(String, String)>,
    /// `CertSigner` of every request.
    pub signer: String,
    /// Mark of the socket.
    pub mark: Option<u32>,
    /// Counters.
    pub metrics: Metrics,
}

/// Why no certificate was obtained.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file that the connection needs cannot be read.
    #[error("cannot read {path}: {source}")]
    File {
        /// The file.
        path: String,
        /// Error of the operating system.
        source: io::Error,
    },
    /// No connection to the authority.
    #[error("cannot reach {address}: {problem}")]
    Connect {
        /// host:port.
        address: String,
        /// What failed.
        problem: String,
    },
    /// The authority refused the request.
    #[error("the authority refused the request with {:?}: {}", .0.code(), .0.message())]
    Refused(Box<Status>),
}

impl Client {
    /// Has `csr` (PEM) signed for `ttl`. `current` authenticates the request while it is valid;
    /// without it, or if the authority rejects it, the token does.
    ///
    /// # Errors
    /// The last failure, after all attempts.
    pub async fn sign(
        &self,
        csr: &str,
        ttl: Duration,
        current: Option<&Workload>,
    ) -> Result<Vec<String>, Error> {
        self.metrics.requests.with_label_values(&[CSR]).inc();
        let started = tokio::time::Instant::now();
        let result = self.attempts(csr, ttl, current).await;
        let spent = started.elapsed().as_secs_f64() * 1000.0;
        self.metrics.latency.with_label_values(&[CSR]).add(spent);
        if result.is_err() {
            self.metrics.failures.with_label_values(&[CSR]).inc();
        }
        result
    }

    async fn attempts(
        &self,
        csr: &str,
        ttl: Duration,
        current: Option<&Workload>,
    ) -> Result<Vec<String>, Error> {
        let mut current = current.filter(|workload| workload.is_valid(SystemTime::now()));
        let mut pause = FIRST_PAUSE;
        let mut attempt = 1;
        loop {
            let failure = match self.attempt(csr, ttl, current).await {
                Ok(chain) => return Ok(chain),
                Err(failure) => failure,
            };
            // The roots may have changed, so that the current certificate no longer verifies: the
            // token still works.
            let fall_back =
                current.is_some() && self.token.is_some() && !failure.is_about_the_network();
            if fall_back {
                tracing::info!(error = %failure, "current certificate rejected, using the token");
                current = None;
            } else if attempt >= ATTEMPTS || !failure.may_pass() {
                return Err(failure);
            } else {
                tokio::time::sleep(pause.mul_f64(rand::random_range(0.9..=1.1))).await;
                pause = pause.saturating_mul(2);
            }
            attempt += 1;
            self.metrics.retries.with_label_values(&[CSR]).inc();
        }
    }

    async fn attempt(
        &self,
        csr: &str,
        ttl: Duration,
        current: Option<&Workload>,
    ) -> Result<Vec<String>, Error> {
        let channel = self.connect(current).await?;
        let metadata = (!self.signer.is_empty()).then(|| prost_types::Struct {
            fields: std::iter::once((
                "CertSigner".to_owned(),
                prost_types::Value {
                    kind: Some(prost_types::value::Kind::StringValue(self.signer.clone())),
                },
            ))
            .collect(),
        });
        let mut request = Request::new(IstioCertificateRequest {
            csr: csr.to_owned(),
            validity_duration: i64::try_from(ttl.as_secs()).unwrap_or(i64::MAX),
            metadata,
            ..IstioCertificateRequest::default()
        });
        request.set_timeout(ATTEMPT_TIMEOUT);
        for (key, value) in &self.metadata {
            match (
                key.parse::<AsciiMetadataKey>(),
                value.parse::<AsciiMetadataValue>(),
            ) {
                (Ok(key), Ok(value)) => {
                    request.metadata_mut().insert(key, value);
                }
                _ => tracing::warn!(key, "ignoring invalid metadata for the authority"),
            }
        }
        if current.is_none()
            && let Some(token) = self.read_token().await
        {
            request.metadata_mut().insert("authorization", token);
        }
        let call = async {
            IstioCertificateServiceClient::new(channel)
                .create_certificate(request)
                .await
        };
        match tokio::time::timeout(ATTEMPT_TIMEOUT, call).await {
            Ok(Ok(answer)) => Ok(answer.into_inner().cert_chain),
            Ok(Err(status)) => Err(Error::Refused(Box::new(status))),
            Err(_) => Err(Error::Refused(Box::new(Status::deadline_exceeded(
                "no response in time",
            )))),
        }
    }

    /// Only a warning if it fails, as mutual TLS may be sufficient.
    async fn read_token(&self) -> Option<AsciiMetadataValue> {
        let path = self.token.as_ref()?;
        let text = match tokio::fs::read_to_string(path).await {
            Ok(text) => zeroize::Zeroizing::new(text),
            Err(error) => {
                tracing::warn!(path = %path.display(), %error, "cannot read the token");
                return None;
            }
        };
        let token = text.trim();
        if token.is_empty() {
            tracing::warn!(path = %path.display(), "the token is empty");
            return None;
        }
        let mut value: AsciiMetadataValue = zeroize::Zeroizing::new(format!("Bearer {token}"))
            .parse()
            .ok()?;
        value.set_sensitive(true);
        Some(value)
    }

    async fn connect(&self, current: Option<&Workload>) -> Result<Channel, Error> {
        let unreachable = |problem: String| Error::Connect {
            address: format!("{}:{}", self.address.host, self.address.port),
            problem,
        };
        let mut tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(read(&self.root).await?))
            .domain_name(self.address.host.clone());
        if let Some(directory) = &self.provisioned {
            let chain = read(&directory.join(super::output::CHAIN)).await?;
            let key = zeroize::Zeroizing::new(read(&directory.join(super::output::KEY)).await?);
            tls = tls.identity(Identity::from_pem(chain, key.as_bytes()));
        } else if let Some(workload) = current {
            tls = tls.identity(Identity::from_pem(&workload.chain, workload.key.as_bytes()));
        }
        let host = if self.address.host.contains(':') {
            format!("[{}]", self.address.host)
        } else {
            self.address.host.clone()
        };
        let endpoint = Endpoint::from_shared(format!("https://{host}:{}", self.address.port))
            .and_then(|endpoint| endpoint.tls_config(tls))
            .map_err(|error| unreachable(describe(&error)))?
            .connect_timeout(ATTEMPT_TIMEOUT);
        let (address, mark) = (self.address.clone(), self.mark);
        let connector = service_fn(move |_: Uri| {
            let address = address.clone();
            async move { dial(&address, mark).await.map(TokioIo::new) }
        });
        match tokio::time::timeout(ATTEMPT_TIMEOUT, endpoint.connect_with_connector(connector))
            .await
        {
            Ok(Ok(channel)) => Ok(channel),
            Ok(Err(error)) => Err(unreachable(describe(&error))),
            Err(_) => Err(unreachable("timeout".to_owned())),
        }
    }
}

impl Error {
    /// Whether another attempt may succeed.
    fn may_pass(&self) -> bool {
        match self {
            Self::File { .. } => false,
            Self::Connect { .. } => true,
            Self::Refused(status) => matches!(
                status.code(),
                Code::Cancelled
                    | Code::DeadlineExceeded
                    | Code::ResourceExhausted
                    | Code::Aborted
                    | Code::Internal
                    | Code::Unavailable
            ),
        }
    }

    /// A network failure, so the credentials cannot be the cause.
    fn is_about_the_network(&self) -> bool {
        match self {
            Self::File { .. } => true,
            Self::Connect { problem, .. } => !is_about_tls(problem),
            Self::Refused(status) => match status.code() {
                Code::Unauthenticated | Code::PermissionDenied => false,
                _ => !is_about_tls(&format!("{status:?}")),
            },
        }
    }
}

/// With TLS 1.3 a rejected client certificate is reported only when the first response is read.
fn is_about_tls(text: &str) -> bool {
    ["certificate", "alert", "tls", "TLS", "handshake"]
        .iter()
        .any(|word| text.contains(word))
}

async fn read(path: &std::path::Path) -> Result<String, Error> {
    tokio::fs::read_to_string(path)
        .await
        .map_err(|source| Error::File {
            path: path.display().to_string(),
            source,
        })
}

async fn dial(address: &HostPort, mark: Option<u32>) -> io::Result<TcpStream> {
    let mut last = io::Error::new(
        io::ErrorKind::NotFound,
        format!("the host name {} has no address", address.host),
    );
    for target in lookup_host((address.host.as_str(), address.port)).await? {
        let socket = if target.is_ipv4() {
            TcpSocket::new_v4()?
        } else {
            TcpSocket::new_v6()?
        };
        if let Some(mark) = mark {
            setsockopt(&socket, sockopt::Mark, &mark)?;
        }
        match socket.connect(target).await {
            Ok(stream) => {
                stream.set_nodelay(true)?;
                return Ok(stream);
            }
            Err(error) => last = error,
        }
    }
    Err(last)
}

/// An error and its causes on one line.
fn describe(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(cause) = source {
        text.push_str(": ");
        text.push_str(&cause.to_string());
        source = cause.source();
    }
    text
}
