use std::fs;
use std::sync::Arc;

use mesh_common::tls::certificates;
use tonic::Code;

use crate::harness::{Citadel, Csr, Issuer, eventually, verifies};

#[tokio::test]
async fn a_restart_keeps_the_root() {
    let first = Citadel::start(&[]).await;
    let (dir, issuer) = (first.dir.clone(), first.issuer.clone());
    let (root, key) = (
        first.root_pem(),
        fs::read(first.path("ca/ca-key.pem")).unwrap(),
    );
    let leaf = first.issue(&Csr::new()).await.cert_chain[0].clone();
    first.stop().await;
    let second = Citadel::start_in(dir, issuer, &[]).await;
    assert_eq!(second.root_pem(), root);
    assert_eq!(fs::read(second.path("ca/ca-key.pem")).unwrap(), key);
    assert!(verifies(
        &leaf,
        "",
        &second.issue(&Csr::new()).await.cert_chain[1]
    ));
    second.stop().await;
}

#[tokio::test]
async fn a_task_that_panics_ends_the_process() {
    let (panic, panics) = tokio::sync::oneshot::channel::<()>();
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let citadel = Citadel::begin_with(dir, Arc::new(Issuer::new()), &[], |bound| {
        bound.with_task(Box::pin(async move {
            panics.await.unwrap();
            panic!("on purpose")
        }))
    })
    .await;
    citadel.ready().await;
    panic.send(()).unwrap();
    assert_eq!(
        citadel.failed().await,
        "task \"extra\" panicked: on purpose"
    );
}

#[tokio::test]
async fn damaged_files_end_the_process_and_stay_as_they_are() {
    let citadel = Citadel::start(&[]).await;
    let dir = citadel.dir.clone();
    citadel.stop().await;
    let path = dir.path().join("ca/ca-cert.pem");
    fs::write(&path, "damaged").unwrap();
    let error = Citadel::fails(dir.path(), &[]).await;
    assert!(
        error.contains("cannot be used") && error.contains("new root"),
        "{error}"
    );
    assert_eq!(fs::read_to_string(&path).unwrap(), "damaged");
}

#[tokio::test]
async fn an_incomplete_provided_authority_is_named() {
    let dir = tempfile::tempdir().unwrap();
    fs::create_dir(dir.path().join("cacerts")).unwrap();
    fs::write(dir.path().join("cacerts/ca-cert.pem"), "x").unwrap();
    let error = Citadel::fails(dir.path(), &[]).await;
    assert!(
        error.contains("ca-key.pem") && error.contains("incomplete"),
        "{error}"
    );
    assert!(!dir.path().join("ca").exists());
}

#[tokio::test]
async fn a_root_near_its_end_is_renewed_while_serving() {
    // With a grace period of 100 percent every check finds it due.
    let citadel = Citadel::start(&[
        "--root-cert-grace-percent=100",
        "--root-cert-check-interval=1s",
        "--root-cert-check-jitter=false",
    ])
    .await;
    let before = citadel.issue(&Csr::new()).await;
    eventually("another root", async || {
        citadel.issue(&Csr::new()).await.cert_chain[1] != before.cert_chain[1]
    })
    .await;
    let after = citadel.issue(&Csr::new()).await;
    // Same key and name: what was signed under one root verifies under the other.
    assert!(verifies(&before.cert_chain[0], "", &after.cert_chain[1]));
    assert!(verifies(&after.cert_chain[0], "", &before.cert_chain[1]));
    eventually("root in the files", async || {
        citadel.root_pem() != before.cert_chain[1]
    })
    .await;
    assert!(
        citadel
            .metric("citadel_ca_reload_count{result=\"success\"}")
            .await
            >= 1.0
    );
    citadel.stop().await;
}

fn write_authority(
    dir: &std::path::Path,
    root: &rcgen::CertifiedIssuer<'_, rcgen::KeyPair>,
) -> String {
    let mut params = rcgen::CertificateParams::default();
    params
        .distinguished_name
        .push(rcgen::DnType::CommonName, "intermediate");
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Constrained(0));
    params.key_usages = vec![rcgen::KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    let key = rcgen::KeyPair::generate().unwrap();
    let certificate = params.signed_by(&key, root).unwrap().pem();
    fs::create_dir_all(dir).unwrap();
    for (name, content) in [
        ("ca-key.pem", key.serialize_pem()),
        ("cert-chain.pem", format!("{certificate}{}", root.pem())),
        ("root-cert.pem", root.pem()),
        ("ca-cert.pem", certificate.clone()),
    ] {
        fs::write(dir.join(name), content).unwrap();
    }
    certificate
}

#[tokio::test]
async fn a_provided_intermediate_signs_and_is_replaced_in_place() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    let root =
        rcgen::CertifiedIssuer::self_signed(params, rcgen::KeyPair::generate().unwrap()).unwrap();
    let cacerts = dir.path().join("cacerts");
    let first = write_authority(&cacerts, &root);
    let citadel = Citadel::start_in(dir, Arc::new(Issuer::new()), &[]).await;
    let signer = async || {
        let answer = citadel.issue(&Csr::new()).await;
        let [leaf, intermediate, root] = answer.cert_chain.try_into().unwrap();
        assert!(verifies(&leaf, &intermediate, &root));
        certificates(intermediate.as_bytes()).unwrap()
    };
    assert_eq!(signer().await, certificates(first.as_bytes()).unwrap());
    let second = certificates(write_authority(&cacerts, &root).as_bytes()).unwrap();
    eventually("the new intermediate", async || signer().await == second).await;

    fs::write(cacerts.join("ca-key.pem"), "damaged").unwrap();
    eventually("a counted failure", async || {
        citadel
            .metric("citadel_ca_reload_count{result=\"failure\"}")
            .await
            >= 1.0
    })
    .await;
    assert_eq!(signer().await, second);
    citadel.stop().await;
}

#[tokio::test]
async fn token_keys_are_replaced_without_a_restart() {
    let citadel = Citadel::start(&[]).await;
    let next = Issuer::new();
    let ask = async |token: String| {
        citadel
            .create(None, Some(&token), Csr::new().request())
            .await
    };
    assert_eq!(
        ask(next.token("foo", "bar")).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    fs::write(citadel.path("jwks.json.new"), next.jwks()).unwrap();
    fs::rename(citadel.path("jwks.json.new"), citadel.path("jwks.json")).unwrap();
    eventually("the new key", async || {
        ask(next.token("foo", "bar")).await.is_ok()
    })
    .await;
    assert!(ask(citadel.issuer.token("foo", "bar")).await.is_err());
    citadel.stop().await;
}

#[tokio::test]
async fn metrics_and_pages() {
    let citadel = Citadel::start(&[]).await;
    citadel.issue(&Csr::new()).await;
    assert_eq!(citadel.metric("citadel_server_csr_count").await, 1.0);
    assert_eq!(
        citadel
            .metric("citadel_server_success_cert_issuance_count")
            .await,
        1.0
    );
    assert_eq!(citadel.metric("citadel_server_root_cert_count").await, 1.0);
    assert!(
        citadel
            .metric("citadel_server_root_cert_expiry_seconds")
            .await
            > 86_400.0
    );
    let handled = |code: &str| {
        format!(
            "grpc_server_handled_total{{grpc_code=\"{code}\",grpc_method=\"CreateCertificate\",\
             grpc_service=\"istio.v1.auth.IstioCertificateService\",grpc_type=\"unary\"}}"
        )
    };
    assert_eq!(citadel.metric(&handled("OK")).await, 1.0);
    assert_eq!(citadel.metric(&handled("Unauthenticated")).await, 0.0);

    let (status, text) = citadel.http("/debug/ca").await.unwrap();
    assert_eq!(status, 200);
    assert!(
        text.contains("O=cluster.local") && !text.contains("PRIVATE"),
        "{text}"
    );
    assert!(citadel.http("/version").await.unwrap().1.contains('@'));
    assert_eq!(citadel.http("/healthz").await.unwrap().0, 200);
    citadel.stop().await;
}

#[tokio::test]
async fn the_self_check_keeps_a_file_fresh() {
    let dir = Arc::new(tempfile::tempdir().unwrap());
    let file = dir.path().join("alive");
    let path = format!("--liveness-probe-path={}", file.display());
    let flags = [
        path.as_str(),
        "--liveness-probe-interval=100ms",
        "--probe-check-interval=1s",
    ];
    let citadel = Citadel::start_in(dir, Arc::new(Issuer::new()), &flags).await;
    eventually("file", async || file.exists()).await;
    eventually("a successful check", async || {
        let name = "grpc_server_handled_total{grpc_code=\"OK\",grpc_method=\"CreateCertificate\",grpc_service=\"istio.v1.auth.IstioCertificateService\",grpc_type=\"unary\"}";
        citadel.metric(name).await >= 1.0
    })
    .await;
    // Self-checks are not counted as requests.
    assert_eq!(
        citadel
            .metric("citadel_server_success_cert_issuance_count")
            .await,
        0.0
    );
    citadel.stop().await;
    eventually("no file", async || !file.exists()).await;
}
