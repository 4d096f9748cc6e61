//! Runs citadel in the test process, on free ports, with its own token issuer.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use citadel::{Args, Bound, Listeners, Timing};
use clap::Parser;
use istio_api::ca::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_common::grpc::ca::istio_certificate_service_client::IstioCertificateServiceClient;
use mesh_common::tls::{self, KeyPair, ReloadingClientConfig, Verify};
use mesh_common::{drain, lease, list_watch};
use rcgen::{CertificateParams, DistinguishedName, KeyPair as Key};
use rustls::RootCertStore;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tonic::transport::Channel;
use tonic::{Request, Status};

pub(crate) const LIMIT: Duration = Duration::from_secs(60);

/// Issues tokens.
pub(crate) struct Issuer {
    key: EcdsaKeyPair,
}

impl Issuer {
    pub(crate) fn new() -> Self {
        Self {
            key: EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap(),
        }
    }

    pub(crate) fn jwks(&self) -> String {
        let point = self.key.public_key().as_ref();
        json!({"keys": [{
            "kty": "EC", "crv": "P-256", "use": "sig", "alg": "ES256", "kid": "1",
            "x": URL_SAFE_NO_PAD.encode(&point[1..33]), "y": URL_SAFE_NO_PAD.encode(&point[33..]),
        }]})
        .to_string()
    }

    pub(crate) fn token(&self, namespace: &str, account: &str) -> String {
        self.token_with(namespace, account, |_| {})
    }

    pub(crate) fn token_with(
        &self,
        namespace: &str,
        account: &str,
        change: impl FnOnce(&mut Value),
    ) -> String {
        let now = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs();
        let mut claims = json!({
            "iss": "https://issuer.test",
            "aud": ["istio-ca"],
            "sub": format!("system:serviceaccount:{namespace}:{account}"),
            "nbf": now, "exp": now + 600,
            "kubernetes.io": {
                "namespace": namespace,
                "serviceaccount": {"name": account, "uid": "1"},
                "pod": {"name": "pod-1", "uid": "2"},
            },
        });
        change(&mut claims);
        let part = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let input = format!(
            "{}.{}",
            part(&json!({"alg": "ES256", "kid": "1"})),
            part(&claims)
        );
        let signature = self
            .key
            .sign(&SystemRandom::new(), input.as_bytes())
            .unwrap();
        format!("{input}.{}", URL_SAFE_NO_PAD.encode(signature.as_ref()))
    }
}

/// A running citadel.
pub(crate) struct Citadel {
    pub(crate) dir: Arc<tempfile::TempDir>,
    pub(crate) issuer: Arc<Issuer>,
    pub(crate) grpc: SocketAddr,
    pub(crate) admin: SocketAddr,
    trigger: drain::Trigger,
    task: JoinHandle<anyhow::Result<()>>,
}

/// A key and its signing request.
pub(crate) struct Csr {
    pub(crate) key: Key,
    pub(crate) pem: String,
}

impl Csr {
    pub(crate) fn new() -> Self {
        Self::with(|_| {})
    }

    pub(crate) fn with(change: impl FnOnce(&mut CertificateParams)) -> Self {
        Self::for_key(Key::generate().unwrap(), change)
    }

    pub(crate) fn for_key(key: Key, change: impl FnOnce(&mut CertificateParams)) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        change(&mut params);
        let pem = params.serialize_request(&key).unwrap().pem().unwrap();
        Self { key, pem }
    }

    pub(crate) fn request(&self) -> IstioCertificateRequest {
        IstioCertificateRequest {
            csr: self.pem.clone(),
            ..Default::default()
        }
    }

    /// The client's key pair, from a response to this request.
    pub(crate) fn pair(&self, answer: &IstioCertificateResponse) -> KeyPair {
        let (_, chain) = answer.cert_chain.split_last().unwrap();
        KeyPair {
            chain: tls::certificates(chain.concat().as_bytes()).unwrap(),
            key: PrivateKeyDer::from_pem_slice(self.key.serialize_pem().as_bytes()).unwrap(),
        }
    }
}

/// Short delays, as servers run on the same machine; leases do not expire by themselves.
const TIMING: Timing = Timing {
    lists: list_watch::Timing {
        min_backoff: Duration::from_millis(10),
        max_backoff: Duration::from_millis(100),
        request: LIMIT,
        watch: Duration::from_secs(280),
    },
    lease: lease::Timing {
        duration: Duration::from_secs(3600),
        certain: LIMIT,
        period: Duration::from_millis(5),
    },
    pauses: (Duration::from_millis(10), Duration::from_millis(100)),
    review: Duration::from_secs(8),
};

/// Flags of all tests. An ECDSA authority is created faster than an RSA one. With a kubeconfig in
/// the directory nothing is kept in files.
fn args(dir: &Path, flags: &[&str]) -> Args {
    let path = |name: &str| dir.join(name).display().to_string();
    let mut all = vec![
        "citadel".to_owned(),
        "--self-signed-ca=true".to_owned(),
        "--ctrlz_port=0".to_owned(),
        format!("--root-ca-dir={}", path("cacerts")),
    ];
    if dir.join("kubeconfig").exists() {
        all.push(format!("--kubeconfig={}", path("kubeconfig")));
    } else {
        all.extend([
            format!("--self-signed-ca-dir={}", path("ca")),
            format!("--jwks-file={}", path("jwks.json")),
            "--jwt-issuer=https://issuer.test".to_owned(),
            format!("--control-plane-certs-dir={}", path("certs")),
        ]);
    }
    if !flags
        .iter()
        .any(|flag| flag.starts_with("--self-signed-ca-key"))
    {
        all.push("--self-signed-ca-key=p256".to_owned());
    }
    all.extend(flags.iter().map(|flag| (*flag).to_owned()));
    Args::parse_from(all)
}

impl Citadel {
    pub(crate) async fn start(flags: &[&str]) -> Self {
        let dir = Arc::new(tempfile::tempdir().unwrap());
        Self::start_in(dir, Arc::new(Issuer::new()), flags).await
    }

    pub(crate) async fn start_in(
        dir: Arc<tempfile::TempDir>,
        issuer: Arc<Issuer>,
        flags: &[&str],
    ) -> Self {
        let citadel = Self::begin(dir, issuer, flags).await;
        citadel.ready().await;
        citadel
    }

    /// Starts citadel without waiting until it is ready.
    pub(crate) async fn begin(
        dir: Arc<tempfile::TempDir>,
        issuer: Arc<Issuer>,
        flags: &[&str],
    ) -> Self {
        Self::begin_with(dir, issuer, flags, |bound| bound).await
    }

    /// Starts with something changed.
    pub(crate) async fn begin_with(
        dir: Arc<tempfile::TempDir>,
        issuer: Arc<Issuer>,
        flags: &[&str],
        change: impl FnOnce(Bound) -> Bound,
    ) -> Self {
        std::fs::write(dir.path().join("jwks.json"), issuer.jwks()).unwrap();
        let listeners = Listeners {
            grpc: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            admin: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        };
        let (grpc, admin) = (
            listeners.grpc.local_addr().unwrap(),
            listeners.admin.local_addr().unwrap(),
        );
        let (trigger, watch) = drain::channel();
        let args = args(dir.path(), flags);
        let bound = Bound::on(args, listeners).map(|bound| change(bound.with_timing(TIMING)));
        let task = tokio::spawn(async move { bound?.run(watch).await });
        Self {
            dir,
            issuer,
            grpc,
            admin,
            trigger,
            task,
        }
    }

    /// Starts a citadel that must fail; returns the error.
    pub(crate) async fn fails(dir: &Path, flags: &[&str]) -> String {
        let listeners = Listeners {
            grpc: TcpListener::bind("127.0.0.1:0").await.unwrap(),
            admin: TcpListener::bind("127.0.0.1:0").await.unwrap(),
        };
        let (_trigger, watch) = drain::channel();
        let args = args(dir, flags);
        let result = tokio::time::timeout(LIMIT, async {
            let bound = Bound::on(args, listeners)?;
            bound.with_timing(TIMING).run(watch).await
        })
        .await
        .unwrap();
        format!("{:#}", result.unwrap_err())
    }

    pub(crate) async fn ready(&self) {
        eventually("ready", async || {
            assert!(!self.task.is_finished(), "citadel has ended");
            self.http("/ready")
                .await
                .is_some_and(|(status, _)| status == 200)
        })
        .await;
    }

    /// Waits until it ends by itself with an error, and its tasks with it; the error.
    pub(crate) async fn failed(self) -> String {
        let result = tokio::time::timeout(LIMIT, self.task).await.unwrap();
        assert!(self.trigger.drain(LIMIT).await, "a task is left");
        format!("{:#}", result.unwrap().unwrap_err())
    }

    pub(crate) async fn stop(self) {
        assert!(self.trigger.drain(LIMIT).await, "citadel does not end");
        self.task.await.unwrap().unwrap();
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join(name)
    }

    /// The root that this citadel published, or that a test set for it.
    pub(crate) fn root_pem(&self) -> String {
        std::fs::read_to_string(self.path("certs/root-cert.pem")).unwrap()
    }

    pub(crate) fn channel_as(&self, name: &str, pair: Option<KeyPair>) -> Channel {
        let mut roots = RootCertStore::empty();
        for root in tls::certificates(self.root_pem().as_bytes()).unwrap() {
            roots.add(root).unwrap();
        }
        let config = tls::client_config(roots, pair, &Verify::Dns, "test").unwrap();
        let config = ReloadingClientConfig::fixed(config, None);
        tls::channel(&self.grpc.to_string(), &config, Some(name), |endpoint| {
            endpoint.timeout(LIMIT)
        })
        .unwrap()
    }

    pub(crate) fn channel(&self, pair: Option<KeyPair>) -> Channel {
        self.channel_as("istio-citadel", pair)
    }

    /// Calls CreateCertificate with this certificate and these values of `authorization`.
    pub(crate) async fn create(
        &self,
        pair: Option<KeyPair>,
        token: Option<&str>,
        request: IstioCertificateRequest,
    ) -> Result<IstioCertificateResponse, Status> {
        let mut request = Request::new(request);
        if let Some(token) = token {
            let value = format!("Bearer {token}").parse().unwrap();
            request.metadata_mut().insert("authorization", value);
        }
        self.call(pair, request).await
    }

    pub(crate) async fn call(
        &self,
        pair: Option<KeyPair>,
        request: Request<IstioCertificateRequest>,
    ) -> Result<IstioCertificateResponse, Status> {
        IstioCertificateServiceClient::new(self.channel(pair))
            .create_certificate(request)
            .await
            .map(tonic::Response::into_inner)
    }

    /// A certificate for `foo/bar`, by token.
    pub(crate) async fn issue(&self, csr: &Csr) -> IstioCertificateResponse {
        let token = self.issuer.token("foo", "bar");
        self.create(None, Some(&token), csr.request())
            .await
            .unwrap()
    }

    /// Status and body of a page of the monitoring port; `None` while it does not answer.
    pub(crate) async fn http(&self, path: &str) -> Option<(u16, String)> {
        let mut stream = TcpStream::connect(self.admin).await.ok()?;
        let request = format!("GET {path} HTTP/1.1\r\nhost: citadel\r\nconnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await.ok()?;
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.ok()?;
        let status = answer.split(' ').nth(1)?.parse().ok()?;
        Some((status, answer.split_once("\r\n\r\n")?.1.to_owned()))
    }

    /// Value of a metric; `name` includes its labels.
    pub(crate) async fn metric(&self, name: &str) -> f64 {
        let (_, text) = self.http("/metrics").await.unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        line.unwrap_or_else(|| panic!("no {name} in\n{text}"))
            .parse()
            .unwrap()
    }
}

/// Polls until the condition holds.
pub(crate) async fn eventually(what: &str, condition: impl AsyncFn() -> bool) {
    let wait = async {
        while !condition().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(LIMIT, wait)
        .await
        .unwrap_or_else(|_| panic!("never {what}"));
}

/// The first certificate of a PEM text.
pub(crate) fn der(pem: &str) -> Vec<u8> {
    tls::certificates(pem.as_bytes()).unwrap()[0].to_vec()
}

/// Verifies a leaf, with intermediates, against roots.
pub(crate) fn verifies(leaf: &str, intermediates: &str, roots: &str) -> bool {
    let leaf = tls::certificates(leaf.as_bytes()).unwrap();
    let chain = tls::certificates(intermediates.as_bytes()).unwrap();
    let roots = tls::certificates(roots.as_bytes()).unwrap();
    let anchors: Vec<_> = roots
        .iter()
        .map(|root| webpki::anchor_from_trusted_cert(root).unwrap())
        .collect();
    webpki::EndEntityCert::try_from(&leaf[0])
        .unwrap()
        .verify_for_usage(
            webpki::ALL_VERIFICATION_ALGS,
            &anchors,
            &chain,
            rustls_pki_types::UnixTime::now(),
            webpki::KeyUsage::client_auth(),
            None,
            None,
        )
        .is_ok()
}
