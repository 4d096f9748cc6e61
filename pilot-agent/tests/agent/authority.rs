//! A fake certificate authority over gRPC, like citadel.

use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};

use istio_api::ca::{IstioCertificateRequest, IstioCertificateResponse};
use mesh_common::grpc::ca::istio_certificate_service_server::{
    IstioCertificateService, IstioCertificateServiceServer,
};
use parking_lot::Mutex;
use rcgen::{
    BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
    DistinguishedName, ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use time::OffsetDateTime;
use tokio::{net::TcpListener, sync::watch};
use tokio_stream::wrappers::TcpListenerStream;
use tonic::{
    Code, Request, Response, Status,
    transport::{Certificate, Identity, Server, ServerTlsConfig},
};

/// Identity of the workload under test.
pub(crate) const WORKLOAD: &str = "spiffe://cluster.local/ns/shop/sa/web";

/// How the caller authenticated.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Credentials {
    None,
    Token(String),
    Certificate,
}

pub(crate) struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
    state: Mutex<State>,
    calls: watch::Sender<Vec<Credentials>>,
}

struct State {
    lifetime: Duration,
    failures: Vec<Code>,
    refuse_certificates: bool,
}

impl Authority {
    pub(crate) fn new() -> Arc<Self> {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, "mesh");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        Arc::new(Self {
            issuer: CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap(),
            state: Mutex::new(State {
                lifetime: Duration::from_secs(3600),
                failures: Vec::new(),
                refuse_certificates: false,
            }),
            calls: watch::Sender::default(),
        })
    }

    pub(crate) fn root(&self) -> String {
        self.issuer.pem()
    }

    pub(crate) fn write_root(&self, path: &Path) {
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, self.root()).unwrap();
    }

    /// A server certificate and its key.
    pub(crate) fn issue(&self, uri: &str, dns: &[&str]) -> (String, String) {
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::new(
            dns.iter()
                .map(|name| (*name).to_owned())
                .collect::<Vec<_>>(),
        )
        .unwrap();
        params
            .subject_alt_names
            .push(SanType::URI(uri.try_into().unwrap()));
        let cert = leaf(params, Duration::from_secs(3600))
            .signed_by(&key, &self.issuer)
            .unwrap();
        (cert.pem(), key.serialize_pem())
    }

    /// The next calls fail with these codes.
    pub(crate) fn fail(&self, codes: &[Code]) {
        self.state.lock().failures = codes.to_vec();
    }

    pub(crate) fn set_lifetime(&self, lifetime: Duration) {
        self.state.lock().lifetime = lifetime;
    }

    pub(crate) fn refuse_certificates(&self) {
        self.state.lock().refuse_certificates = true;
    }

    pub(crate) fn calls(&self) -> watch::Receiver<Vec<Credentials>> {
        self.calls.subscribe()
    }

    /// Serves on a free port; returns the address, with a name of its certificate.
    pub(crate) async fn serve(self: &Arc<Self>) -> SocketAddr {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        self.serve_on(listener);
        address
    }

    pub(crate) fn serve_on(self: &Arc<Self>, listener: TcpListener) -> tokio::task::JoinHandle<()> {
        let (cert, key) = self.issue(
            "spiffe://cluster.local/ns/istio-system/sa/istio-citadel-service-account",
            &["localhost", "127.0.0.1"],
        );
        let tls = ServerTlsConfig::new()
            .identity(Identity::from_pem(cert, key))
            .client_ca_root(Certificate::from_pem(self.root()))
            .client_auth_optional(true);
        let service = IstioCertificateServiceServer::new(Service(Arc::clone(self)));
        let server = Server::builder()
            .tls_config(tls)
            .unwrap()
            .add_service(service);
        tokio::spawn(async move {
            server
                .serve_with_incoming(TcpListenerStream::new(listener))
                .await
                .unwrap();
        })
    }

    fn sign(&self, csr: &str) -> Vec<String> {
        let mut request = CertificateSigningRequestParams::from_pem(csr).unwrap();
        let mut params = CertificateParams::default();
        params.subject_alt_names = vec![SanType::URI(WORKLOAD.try_into().unwrap())];
        request.params = leaf(params, self.state.lock().lifetime);
        vec![request.signed_by(&self.issuer).unwrap().pem(), self.root()]
    }
}

fn leaf(mut params: CertificateParams, lifetime: Duration) -> CertificateParams {
    let now = OffsetDateTime::now_utc();
    params.distinguished_name = DistinguishedName::new();
    params.not_before = now - Duration::from_secs(120);
    params.not_after = now + lifetime;
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = true;
    params
}

struct Service(Arc<Authority>);

#[tonic::async_trait]
impl IstioCertificateService for Service {
    async fn create_certificate(
        &self,
        request: Request<IstioCertificateRequest>,
    ) -> Result<Response<IstioCertificateResponse>, Status> {
        let has_certificate = request.peer_certs().is_some_and(|certs| !certs.is_empty());
        let token = request
            .metadata()
            .get("authorization")
            .map(|value| value.to_str().unwrap().to_owned());
        let credentials = match (has_certificate, token) {
            (true, _) => Credentials::Certificate,
            (false, Some(token)) => Credentials::Token(token),
            (false, None) => Credentials::None,
        };
        self.0
            .calls
            .send_modify(|calls| calls.push(credentials.clone()));
        let mut state = self.0.state.lock();
        if !state.failures.is_empty() {
            return Err(Status::new(state.failures.remove(0), "as the test wants"));
        }
        if credentials == Credentials::None
            || (credentials == Credentials::Certificate && state.refuse_certificates)
        {
            return Err(Status::unauthenticated("who are you"));
        }
        drop(state);
        let cert_chain = self.0.sign(&request.get_ref().csr);
        Ok(Response::new(IstioCertificateResponse { cert_chain }))
    }
}
