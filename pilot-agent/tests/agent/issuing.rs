//! The client of the authority.

use std::{
    path::PathBuf,
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_common::metrics::Registry;
use pilot_agent::{
    bootstrap::HostPort,
    secret::{
        Secrets,
        ca::{Client, Error},
        chain,
        key::{self, Algorithm},
        manager::{Manager, Origin},
        metrics::Metrics,
    },
};
use tempfile::TempDir;
use tokio::sync::watch;
use tonic::Code;

use crate::authority::{Authority, Credentials, WORKLOAD};

struct Fixture {
    authority: Arc<Authority>,
    client: Client,
    registry: Registry,
    directory: TempDir,
}

async fn fixture() -> Fixture {
    let authority = Authority::new();
    let address = authority.serve().await;
    let directory = tempfile::tempdir().unwrap();
    let at = |name: &str| -> PathBuf { directory.path().join(name) };
    authority.write_root(&at("root-cert.pem"));
    std::fs::write(at("token"), "first-token\n").unwrap();
    let registry = Registry::empty();
    let client = Client {
        address: HostPort {
            host: "localhost".to_owned(),
            port: address.port(),
        },
        root: at("root-cert.pem"),
        token: Some(at("token")),
        provisioned: None,
        metadata: vec![("clusterid".to_owned(), "Kubernetes".to_owned())],
        signer: String::new(),
        mark: None,
        metrics: Metrics::new(&registry),
    };
    Fixture {
        authority,
        client,
        registry,
        directory,
    }
}

const TTL: Duration = Duration::from_secs(3600);

#[tokio::test]
async fn token_first_then_the_current_certificate() {
    let fixture = fixture().await;
    let request = key::request(WORKLOAD, Algorithm::EcdsaP256).unwrap();
    let answer = fixture
        .client
        .sign(&request.csr_pem, TTL, None)
        .await
        .unwrap();
    let issued = chain::check(&answer, &request, SystemTime::now()).unwrap();
    assert_eq!(issued.identity.as_deref(), Some(WORKLOAD));
    fixture
        .client
        .sign(&request.csr_pem, TTL, Some(&issued.workload))
        .await
        .unwrap();
    let mut ended = issued.workload.clone();
    ended.not_after = SystemTime::UNIX_EPOCH;
    std::fs::write(fixture.directory.path().join("token"), "second-token").unwrap();
    fixture
        .client
        .sign(&request.csr_pem, TTL, Some(&ended))
        .await
        .unwrap();
    assert_eq!(
        *fixture.authority.calls().borrow(),
        [
            Credentials::Token("Bearer first-token".to_owned()),
            Credentials::Certificate,
            Credentials::Token("Bearer second-token".to_owned()),
        ]
    );
}

#[tokio::test]
async fn a_certificate_that_is_not_accepted_falls_back_to_the_token() {
    let fixture = fixture().await;
    let request = key::request(WORKLOAD, Algorithm::EcdsaP256).unwrap();
    let answer = fixture
        .client
        .sign(&request.csr_pem, TTL, None)
        .await
        .unwrap();
    let current = chain::check(&answer, &request, SystemTime::now())
        .unwrap()
        .workload;
    // Refused by the service.
    fixture.authority.refuse_certificates();
    fixture
        .client
        .sign(&request.csr_pem, TTL, Some(&current))
        .await
        .unwrap();
    let calls = fixture.authority.calls().borrow().clone();
    assert_eq!(calls.len(), 3);
    assert!(matches!(calls.last(), Some(Credentials::Token(_))));
    // Refused in the handshake: a certificate of another mesh.
    let foreign = Authority::new();
    let (chain, key) = foreign.issue(WORKLOAD, &[]);
    let foreign = chain::pair(&key, &chain, SystemTime::now()).unwrap();
    fixture
        .client
        .sign(&request.csr_pem, TTL, Some(&foreign))
        .await
        .unwrap();
    assert!(matches!(
        fixture.authority.calls().borrow().last(),
        Some(Credentials::Token(_))
    ));
}

#[tokio::test]
async fn passing_failures_are_tried_again_and_lasting_ones_are_not() {
    let fixture = fixture().await;
    let request = key::request(WORKLOAD, Algorithm::EcdsaP256).unwrap();
    fixture.authority.fail(&[Code::Unavailable, Code::Internal]);
    fixture
        .client
        .sign(&request.csr_pem, TTL, None)
        .await
        .unwrap();
    assert_eq!(fixture.authority.calls().borrow().len(), 3);
    fixture.authority.fail(&[Code::InvalidArgument]);
    let error = fixture
        .client
        .sign(&request.csr_pem, TTL, None)
        .await
        .unwrap_err();
    assert!(
        matches!(&error, Error::Refused(status) if status.code() == Code::InvalidArgument),
        "{error}"
    );
    assert_eq!(fixture.authority.calls().borrow().len(), 4);
    let text = fixture.registry.text();
    assert!(
        text.contains("istio_agent_num_outgoing_requests{request_type=\"csr\"} 2"),
        "{text}"
    );
    assert!(
        text.contains("istio_agent_num_failed_outgoing_requests{request_type=\"csr\"} 1"),
        "{text}"
    );
    assert!(
        text.contains("istio_agent_num_outgoing_retries{request_type=\"csr\"} 2"),
        "{text}"
    );
}

#[tokio::test]
async fn an_authority_of_another_root_never_sees_the_token() {
    let mut fixture = fixture().await;
    let other = Authority::new();
    fixture.client.address.port = other.serve().await.port();
    let request = key::request(WORKLOAD, Algorithm::EcdsaP256).unwrap();
    let error = fixture
        .client
        .sign(&request.csr_pem, TTL, None)
        .await
        .unwrap_err();
    assert!(matches!(error, Error::Connect { .. }), "{error}");
    assert!(other.calls().borrow().is_empty());
}

/// The manager of the fixture, and what it publishes.
fn manage(fixture: &Fixture) -> watch::Receiver<Secrets> {
    let at = |name: &str| -> PathBuf { fixture.directory.path().join(name) };
    let secrets = watch::Sender::new(Secrets::default());
    let published = secrets.subscribe();
    let manager = Manager {
        origin: Origin::Authority {
            client: Box::new(fixture.client.clone()),
            identity: WORKLOAD.to_owned(),
            algorithm: Algorithm::EcdsaP256,
            ttl: TTL,
            grace: 0.5,
            jitter: 0.01,
        },
        mesh_root: at("root-cert.pem"),
        revocation_list: at("crl.pem"),
        anchors: Vec::new(),
        output: Some((at("output"), 0o600)),
        debounce: Duration::from_millis(10),
        metrics: fixture.client.metrics.clone(),
        secrets,
    };
    tokio::spawn(manager.run());
    published
}

#[tokio::test]
async fn an_absent_authority_is_waited_for_and_copies_are_written() {
    let fixture = fixture().await;
    fixture
        .authority
        .fail(&[Code::PermissionDenied, Code::PermissionDenied]);
    let mut published = manage(&fixture);
    let secrets = published
        .wait_for(|secrets| secrets.workload.is_some())
        .await
        .unwrap()
        .clone();
    assert_eq!(fixture.authority.calls().borrow().len(), 3);
    assert_eq!(
        secrets.trust.as_deref().map(str::trim),
        Some(fixture.authority.root().trim())
    );
    let output = fixture.directory.path().join("output/cert-chain.pem");
    for _ in 0..1000 {
        if output.exists() {
            break;
        }
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    assert_eq!(
        std::fs::read_to_string(output).unwrap(),
        secrets.workload.unwrap().chain
    );
}

#[tokio::test]
async fn an_ended_certificate_is_marked() {
    let fixture = fixture().await;
    fixture.authority.set_lifetime(Duration::from_secs(2));
    let mut published = manage(&fixture);
    let secrets = published
        .wait_for(|secrets| secrets.expired)
        .await
        .unwrap()
        .clone();
    assert!(!secrets.workload.unwrap().is_valid(SystemTime::now()));
}
