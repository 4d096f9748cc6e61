use std::time::{SystemTime, UNIX_EPOCH};

use istio_api::ca::{CsrRequest, IstioCertificateRequest};
use mesh_common::grpc::ca::istio_ca_service_client::IstioCAServiceClient;
use mesh_common::grpc::health::health_client::HealthClient;
use mesh_common::grpc::health::{HealthCheckRequest, ServingStatus};
use mesh_core::spiffe::Identity;
use rcgen::{BasicConstraints, DnType, IsCa, KeyPair, SanType};
use tonic::Code;
use x509_parser::prelude::{FromDer, X509Certificate};

use crate::harness::{Citadel, Csr, der, verifies};

/// Key usage, critical: digitalSignature and keyEncipherment.
const KEY_USAGE: &[u8] = &[
    0x30, 0x0e, 0x06, 3, 0x55, 0x1d, 0x0f, 1, 1, 0xff, 4, 4, 3, 2, 5, 0xa0,
];

/// Basic constraints, critical: not a CA.
const NO_AUTHORITY: &[u8] = &[
    0x30, 0x0c, 0x06, 3, 0x55, 0x1d, 0x13, 1, 1, 0xff, 4, 2, 0x30, 0,
];

/// The names extension for `spiffe://cluster.local/ns/foo/sa/bar`, critical.
const NAMES: &str = "30320603551d110101ff042830268624\
    7370696666653a2f2f636c75737465722e6c6f63616c2f6e732f666f6f2f73612f626172";

fn contains(haystack: &[u8], needle: &[u8]) -> bool {
    haystack
        .windows(needle.len())
        .any(|window| window == needle)
}

fn bytes(hex: &str) -> Vec<u8> {
    (0..hex.len())
        .step_by(2)
        .map(|at| u8::from_str_radix(&hex[at..at + 2], 16).unwrap())
        .collect()
}

#[tokio::test]
async fn a_token_gives_a_certificate_of_the_exact_profile() {
    let citadel = Citadel::start(&[]).await;
    let csr = Csr::new();
    let answer = citadel.issue(&csr).await;
    assert_eq!(answer.cert_chain.len(), 2, "leaf and root");
    assert_eq!(answer.cert_chain[1], citadel.root_pem());
    assert!(
        answer
            .cert_chain
            .iter()
            .all(|pem| pem.ends_with("-----\n") && !pem.ends_with("\n\n"))
    );
    assert!(verifies(&answer.cert_chain[0], "", &answer.cert_chain[1]));

    let leaf = der(&answer.cert_chain[0]);
    for extension in [KEY_USAGE, NO_AUTHORITY, &bytes(NAMES)] {
        assert!(contains(&leaf, extension), "{extension:02x?} is missing");
    }
    let root = der(&answer.cert_chain[1]);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    let (_, root) = X509Certificate::from_der(&root).unwrap();
    let extensions: Vec<String> = leaf
        .iter_extensions()
        .map(|extension| extension.oid.to_string())
        .collect();
    let mut sorted = extensions.clone();
    sorted.sort();
    assert_eq!(
        sorted,
        [
            "2.5.29.15",
            "2.5.29.17",
            "2.5.29.19",
            "2.5.29.35",
            "2.5.29.37"
        ]
    );
    let usage = leaf.extended_key_usage().unwrap().unwrap();
    assert!(!usage.critical && usage.value.server_auth && usage.value.client_auth);
    assert_eq!(leaf.subject().iter().count(), 0);
    assert_eq!(leaf.issuer().as_raw(), root.subject().as_raw());
    assert_eq!(leaf.version.0, 2);
    let serial = leaf.raw_serial();
    assert!(serial.len() <= 16 && serial[0] < 0x80 && serial.iter().any(|byte| *byte != 0));

    let now = i64::try_from(
        SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap()
            .as_secs(),
    )
    .unwrap();
    let (from, to) = (
        leaf.validity().not_before.timestamp(),
        leaf.validity().not_after.timestamp(),
    );
    assert!((now - 125..=now - 119).contains(&from), "{from} at {now}");
    assert!(
        (now + 24 * 3600 - 5..=now + 24 * 3600 + 1).contains(&to),
        "{to} at {now}"
    );
    citadel.stop().await;
}

#[tokio::test]
async fn serial_numbers_differ_for_one_key() {
    let citadel = Citadel::start(&[]).await;
    let csr = Csr::new();
    let (first, second) = (citadel.issue(&csr).await, citadel.issue(&csr).await);
    let serial = |pem: &str| {
        X509Certificate::from_der(&der(pem))
            .unwrap()
            .1
            .raw_serial_as_string()
    };
    assert_ne!(serial(&first.cert_chain[0]), serial(&second.cert_chain[0]));
    citadel.stop().await;
}

#[tokio::test]
async fn wishes_of_the_request_are_ignored() {
    let citadel = Citadel::start(&[]).await;
    let csr = Csr::with(|params| {
        params.distinguished_name.push(DnType::CommonName, "admin");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.subject_alt_names = vec![
            SanType::URI(
                "spiffe://cluster.local/ns/kube-system/sa/admin"
                    .try_into()
                    .unwrap(),
            ),
            SanType::DnsName("kubernetes.default".try_into().unwrap()),
        ];
    });
    let answer = citadel.issue(&csr).await;
    let leaf = der(&answer.cert_chain[0]);
    assert_eq!(
        Identity::from_certificate_der(&leaf).unwrap().to_string(),
        "spiffe://cluster.local/ns/foo/sa/bar"
    );
    assert!(contains(&leaf, &bytes(NAMES)) && contains(&leaf, NO_AUTHORITY));
    assert!(!contains(&leaf, b"admin") && !contains(&leaf, b"kubernetes"));
    citadel.stop().await;
}

#[tokio::test]
async fn a_certificate_renews_itself_and_goes_before_a_token() {
    let citadel = Citadel::start(&[]).await;
    let csr = Csr::new();
    let first = citadel.issue(&csr).await;
    let token = citadel.issuer.token("other", "account");
    let second = citadel
        .create(Some(csr.pair(&first)), Some(&token), Csr::new().request())
        .await
        .unwrap();
    assert_eq!(
        Identity::from_certificate_der(&der(&second.cert_chain[0]))
            .unwrap()
            .to_string(),
        "spiffe://cluster.local/ns/foo/sa/bar"
    );
    citadel.stop().await;
}

#[tokio::test]
async fn a_certificate_of_an_alias_is_renewed_under_the_current_name() {
    let old = Citadel::start(&["--trust-domain=old"]).await;
    let (dir, issuer) = (old.dir.clone(), old.issuer.clone());
    let csr = Csr::new();
    let first = old.issue(&csr).await;
    old.stop().await;
    let citadel = Citadel::start_in(
        dir,
        issuer,
        &["--trust-domain=new", "--trust-domain-aliases=old"],
    )
    .await;
    let second = citadel
        .create(Some(csr.pair(&first)), None, Csr::new().request())
        .await
        .unwrap();
    assert_eq!(
        Identity::from_certificate_der(&der(&second.cert_chain[0]))
            .unwrap()
            .to_string(),
        "spiffe://new/ns/foo/sa/bar"
    );
    citadel.stop().await;
}

#[tokio::test]
async fn keys_of_authority_and_caller_may_be_of_different_kinds() {
    for authority in ["rsa2048", "p384"] {
        let citadel = Citadel::start(&[&format!("--self-signed-ca-key={authority}")]).await;
        for algorithm in [
            &rcgen::PKCS_RSA_SHA256,
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
        ] {
            let csr = Csr::for_key(KeyPair::generate_for(algorithm).unwrap(), |_| {});
            let answer = citadel.issue(&csr).await;
            assert!(
                verifies(&answer.cert_chain[0], "", &answer.cert_chain[1]),
                "{authority} {algorithm:?}"
            );
        }
        citadel.stop().await;
    }
}

#[tokio::test]
async fn lifetimes() {
    let citadel = Citadel::start(&[
        "--max-workload-cert-ttl=48h",
        "--self-signed-ca-cert-ttl=36h",
    ])
    .await;
    let token = citadel.issuer.token("foo", "bar");
    let ask = async |seconds| {
        let request = IstioCertificateRequest {
            validity_duration: seconds,
            ..Csr::new().request()
        };
        citadel.create(None, Some(&token), request).await
    };
    let hour = 3600;
    for (asked, given) in [
        (0, 24 * hour),
        (-1, 24 * hour),
        (60, 60),
        (48 * hour, 36 * hour),
    ] {
        let leaf = der(&ask(asked).await.unwrap().cert_chain[0]);
        let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
        let now = i64::try_from(
            SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap()
                .as_secs(),
        )
        .unwrap();
        let left = leaf.validity().not_after.timestamp() - now;
        assert!(
            (given - 30..=given + 1).contains(&left),
            "asked {asked}: {left}"
        );
    }
    for asked in [48 * hour + 1, i64::MAX, 9_000_000_000_000] {
        let status = ask(asked).await.unwrap_err();
        assert_eq!(status.code(), Code::InvalidArgument);
        assert!(
            status
                .message()
                .contains("is greater than the max allowed TTL 48h0m0s"),
            "{}",
            status.message()
        );
    }
    assert!(
        citadel
            .metric("citadel_server_csr_sign_err_count{error=\"TTL_ERROR\"}")
            .await
            >= 3.0
    );
    citadel.stop().await;
}

#[tokio::test]
async fn handle_csr_serves_callers_with_a_certificate() {
    let citadel = Citadel::start(&[]).await;
    let csr = Csr::with(|params| {
        params.subject_alt_names = vec![SanType::URI(
            "spiffe://cluster.local/ns/foo/sa/bar".try_into().unwrap(),
        )];
    });
    let pair = csr.pair(&citadel.issue(&csr).await);
    let request = |csr: &Csr, minutes| CsrRequest {
        csr_pem: csr.pem.clone().into_bytes().into(),
        requested_ttl_minutes: minutes,
        ..Default::default()
    };
    let mut with_certificate = IstioCAServiceClient::new(citadel.channel(Some(pair)));
    let answer = with_certificate
        .handle_csr(request(&csr, 60))
        .await
        .unwrap()
        .into_inner();
    assert!(answer.is_approved && answer.cert_chain.is_empty());
    let leaf = String::from_utf8(answer.signed_cert.to_vec()).unwrap();
    assert!(verifies(&leaf, "", &citadel.root_pem()));

    let status = with_certificate
        .handle_csr(request(&Csr::new(), 60))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(
        status.message(),
        "CSR identity extraction error (the SAN extension does not exist)"
    );
    let status = with_certificate
        .handle_csr(request(&csr, i32::MAX))
        .await
        .unwrap_err();
    assert_eq!(status.code(), Code::Internal);

    let mut without = IstioCAServiceClient::new(citadel.channel(None));
    let mut by_token = tonic::Request::new(request(&csr, 60));
    let token = format!("Bearer {}", citadel.issuer.token("foo", "bar"));
    by_token
        .metadata_mut()
        .insert("authorization", token.parse().unwrap());
    assert_eq!(
        without.handle_csr(by_token).await.unwrap_err().code(),
        Code::Unauthenticated
    );
    citadel.stop().await;
}

#[tokio::test]
async fn handle_csr_can_be_switched_off() {
    let citadel = Citadel::start(&["--enable-legacy-csr-api=false"]).await;
    let mut client = IstioCAServiceClient::new(citadel.channel(None));
    let status = client.handle_csr(CsrRequest::default()).await.unwrap_err();
    assert_eq!(status.code(), Code::Unimplemented);
    citadel.stop().await;
}

#[tokio::test]
async fn dual_use_puts_the_identity_into_the_common_name() {
    let citadel = Citadel::start(&["--experimental-dual-use"]).await;
    let leaf = der(&citadel.issue(&Csr::new()).await.cert_chain[0]);
    let (_, leaf) = X509Certificate::from_der(&leaf).unwrap();
    assert_eq!(
        leaf.subject().to_string(),
        "CN=spiffe://cluster.local/ns/foo/sa/bar"
    );
    citadel.stop().await;
}

#[tokio::test]
async fn every_name_of_the_server_is_in_its_certificate() {
    let citadel = Citadel::start(&["--grpc-host-identities=ca.example"]).await;
    for name in [
        "istio-ca",
        "istio-citadel",
        "istio-citadel.istio-system",
        "istio-citadel.istio-system.svc",
        "istio-citadel.istio-system.svc.cluster.local",
        "ca.example",
    ] {
        let mut health = HealthClient::new(citadel.channel_as(name, None));
        let answer = health
            .check(HealthCheckRequest::default())
            .await
            .unwrap()
            .into_inner();
        assert_eq!(answer.status(), ServingStatus::Serving, "{name}");
    }
    let mut other = HealthClient::new(citadel.channel_as("istio-pilot", None));
    assert!(other.check(HealthCheckRequest::default()).await.is_err());
    citadel.stop().await;
}
