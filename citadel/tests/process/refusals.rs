use istio_api::ca::IstioCertificateRequest;
use mesh_common::testing::Authority;
use mesh_common::tls::{KeyPair as Pair, certificates};
use prost_types::value::Kind;
use prost_types::{Struct, Value};
use rcgen::KeyPair;
use rustls_pki_types::PrivateKeyDer;
use rustls_pki_types::pem::PemObject;
use serde_json::json;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tonic::{Code, Request};

use crate::harness::{Citadel, Csr, Issuer};

const UNAUTHENTICATED: &str = "request authenticate failure";

#[tokio::test]
async fn callers_without_good_credentials_learn_nothing() {
    let citadel = Citadel::start(&[]).await;
    let issuer = &citadel.issuer;
    let good = issuer.token("foo", "bar");
    let tokens = [
        None,
        Some("random".to_owned()),
        Some(format!("{good}x")),
        Some(Issuer::new().token("foo", "bar")),
        Some(issuer.token_with("foo", "bar", |claims| claims["exp"] = json!(1_000))),
        Some(issuer.token_with("foo", "bar", |claims| {
            claims["nbf"] = json!(9_999_999_999u64)
        })),
        Some(issuer.token_with("foo", "bar", |claims| {
            claims["aud"] = json!(["https://kubernetes.default.svc"])
        })),
        Some(issuer.token_with("foo", "bar", |claims| {
            claims["iss"] = json!("https://other")
        })),
        Some(issuer.token_with("foo", "bar", |claims| {
            claims["sub"] = json!("system:serviceaccount:foo")
        })),
        Some(issuer.token_with("foo", "bar", |claims| {
            claims["sub"] = json!("system:serviceaccount:foo:bar:x")
        })),
        Some(issuer.token_with("foo", "bar", |claims| {
            claims["sub"] = json!("system:serviceaccount:kube-system:admin")
        })),
        Some(issuer.token("foo", "bar,spiffe://cluster.local/ns/kube-system/sa/admin")),
        Some(issuer.token("foo/sa/admin", "bar")),
        Some(issuer.token("foo", "..%2fadmin")),
        Some("x".repeat(20_000)),
    ];
    let count = tokens.len();
    for token in tokens {
        let status = citadel
            .create(None, token.as_deref(), Csr::new().request())
            .await
            .unwrap_err();
        assert_eq!(
            (status.code(), status.message()),
            (Code::Unauthenticated, UNAUTHENTICATED),
            "{token:?}"
        );
    }
    assert!(
        citadel
            .metric("citadel_server_authentication_failure_count")
            .await
            >= count as f64
    );
    assert!(
        citadel
            .create(None, Some(&good), Csr::new().request())
            .await
            .is_ok()
    );
    citadel.stop().await;
}

#[tokio::test]
async fn headers_do_not_replace_credentials() {
    let citadel = Citadel::start(&[]).await;
    let token = citadel.issuer.token("foo", "bar");
    let with = async |headers: &[(&'static str, String)]| {
        let mut request = Request::new(Csr::new().request());
        for (name, value) in headers {
            request.metadata_mut().append(*name, value.parse().unwrap());
        }
        citadel
            .call(None, request)
            .await
            .map_err(|status| status.code())
    };
    let bearer = format!("Bearer {token}");
    let forged =
        "By=spiffe://cluster.local/ns/a/sa/b;URI=spiffe://cluster.local/ns/a/sa/b".to_owned();
    assert_eq!(
        with(&[("x-forwarded-client-cert", forged)])
            .await
            .unwrap_err(),
        Code::Unauthenticated
    );
    assert_eq!(
        with(&[("authorization", format!("bearer {token}"))])
            .await
            .unwrap_err(),
        Code::Unauthenticated
    );
    assert!(
        with(&[
            ("authorization", "Basic eA==".to_owned()),
            ("authorization", bearer.clone())
        ])
        .await
        .is_ok()
    );
    for (cluster, accepted) in [("", true), ("Kubernetes", true), ("remote", false)] {
        let result = with(&[
            ("authorization", bearer.clone()),
            ("clusterid", cluster.to_owned()),
        ])
        .await;
        assert_eq!(result.is_ok(), accepted, "{cluster:?}");
    }
    citadel.stop().await;
}

#[tokio::test]
async fn impersonation_is_refused() {
    let citadel = Citadel::start(&[]).await;
    let token = citadel.issuer.token("foo", "bar");
    let metadata = |identity: &str| Struct {
        fields: [(
            "ImpersonatedIdentity".to_owned(),
            Value {
                kind: Some(Kind::StringValue(identity.to_owned())),
            },
        )]
        .into(),
    };
    let request = |identity| IstioCertificateRequest {
        metadata: Some(metadata(identity)),
        ..Csr::new().request()
    };
    let status = citadel
        .create(
            None,
            Some(&token),
            request("spiffe://cluster.local/ns/a/sa/b"),
        )
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(
        status.message(),
        "request impersonation authentication failure"
    );
    assert!(
        citadel
            .create(None, Some(&token), request(""))
            .await
            .is_ok()
    );
    citadel.stop().await;
}

#[tokio::test]
async fn bad_signing_requests_are_invalid_arguments() {
    let citadel = Citadel::start(&[]).await;
    let token = citadel.issuer.token("foo", "bar");
    let ask = async |csr: String| {
        let request = IstioCertificateRequest {
            csr,
            ..Default::default()
        };
        citadel
            .create(None, Some(&token), request)
            .await
            .unwrap_err()
    };
    let good = Csr::new().pem;
    let ed25519 = Csr::for_key(KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap(), |_| {}).pem;
    let cases = [
        (String::new(), "not properly encoded"),
        ("junk".to_owned(), "not properly encoded"),
        (format!("{good}{good}"), "not properly encoded"),
        (
            "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n"
                .to_owned(),
            "failed to parse",
        ),
        (ed25519, "not accepted"),
    ];
    for (csr, said) in cases {
        let status = ask(csr).await;
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status.message().starts_with("CSR signing error (") && status.message().contains(said),
            "{status:?}"
        );
    }
    assert!(
        citadel
            .metric("citadel_server_csr_sign_err_count{error=\"CSR_ERROR\"}")
            .await
            >= 5.0
    );
    citadel.stop().await;
}

#[tokio::test]
async fn oversize_requests_are_refused() {
    let citadel = Citadel::start(&[]).await;
    let token = citadel.issuer.token("foo", "bar");
    let request = IstioCertificateRequest {
        csr: "x".repeat(65 * 1024),
        ..Default::default()
    };
    let status = citadel
        .create(None, Some(&token), request)
        .await
        .unwrap_err();
    assert!(
        matches!(status.code(), Code::OutOfRange | Code::ResourceExhausted),
        "{status:?}"
    );
    citadel.stop().await;
}

fn pair(issued: &mesh_common::testing::Issued) -> Pair {
    Pair {
        chain: certificates(issued.cert.as_bytes()).unwrap(),
        key: PrivateKeyDer::from_pem_slice(issued.key.as_bytes()).unwrap(),
    }
}

#[tokio::test]
async fn certificates_of_others_do_not_get_through_the_handshake() {
    let citadel = Citadel::start(&[]).await;
    let token = citadel.issuer.token("foo", "bar");
    let foreign =
        Authority::new("cluster.local").issue(&["spiffe://cluster.local/ns/foo/sa/bar"], &[]);
    // The token does not help: an invalid client certificate is never ignored.
    let status = citadel
        .create(Some(pair(&foreign)), Some(&token), Csr::new().request())
        .await
        .unwrap_err();
    assert_ne!(status.code(), Code::Ok);

    // A workload's certificate cannot sign others.
    let csr = Csr::new();
    let answer = citadel.issue(&csr).await;
    let workload = csr.pair(&answer);
    let mut params = rcgen::CertificateParams::default();
    params.subject_alt_names = vec![rcgen::SanType::URI(
        "spiffe://cluster.local/ns/a/sa/admin".try_into().unwrap(),
    )];
    let key = KeyPair::generate().unwrap();
    let issuer = rcgen::Issuer::from_ca_cert_der(&workload.chain[0], &csr.key).unwrap();
    let forged = params.signed_by(&key, &issuer).unwrap();
    let forged = Pair {
        chain: vec![forged.der().clone(), workload.chain[0].clone()],
        key: PrivateKeyDer::from_pem_slice(key.serialize_pem().as_bytes()).unwrap(),
    };
    assert!(
        citadel
            .create(Some(forged), None, Csr::new().request())
            .await
            .is_err()
    );
    citadel.stop().await;
}

#[tokio::test]
async fn plain_text_gets_no_answer() {
    let citadel = Citadel::start(&[]).await;
    let mut stream = TcpStream::connect(citadel.grpc).await.unwrap();
    stream
        .write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n")
        .await
        .unwrap();
    let mut answer = Vec::new();
    // A reset counts as an end, too.
    let _ = stream.read_to_end(&mut answer).await;
    assert!(
        !answer.starts_with(b"HTTP") && answer.len() < 16,
        "{answer:?}"
    );
    citadel.stop().await;
}

#[tokio::test]
async fn guessing_is_slowed_down() {
    let citadel = Citadel::start(&[]).await;
    let mut client =
        mesh_common::grpc::ca::istio_certificate_service_client::IstioCertificateServiceClient::new(
            citadel.channel(None),
        );
    let mut codes = Vec::new();
    for _ in 0..60 {
        codes.push(
            client
                .create_certificate(IstioCertificateRequest::default())
                .await
                .unwrap_err()
                .code(),
        );
    }
    assert_eq!(codes[0], Code::Unauthenticated);
    assert_eq!(codes[59], Code::ResourceExhausted);
    citadel.stop().await;
}
