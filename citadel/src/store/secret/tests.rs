use std::time::Duration;

use base64::Engine;
use mesh_core::spiffe::TrustDomain;

use super::*;
use crate::ca::Kind;

const YEAR: Duration = Duration::from_secs(365 * 86_400);

fn options() -> Options {
    Options {
        trust_domain: TrustDomain::new("td").unwrap(),
        kind: Kind::P256,
        lifetime: YEAR,
        grace_percent: 20,
        extra_roots: Vec::new(),
        read_only: false,
    }
}

fn text(secret: &Secret, name: &str) -> String {
    String::from_utf8(secret.data.as_ref().unwrap()[name].0.clone()).unwrap()
}

#[test]
fn a_new_secret_is_as_istio_writes_it() {
    let now = SystemTime::now();
    let secret = make(&options(), now).unwrap();
    assert_eq!(secret.type_.as_deref(), Some("istio.io/ca-root"));
    assert_eq!(secret.metadata.name.as_deref(), Some("istio-ca-secret"));
    let keys: Vec<_> = secret.data.as_ref().unwrap().keys().collect();
    assert_eq!(
        keys,
        [
            "ca-cert.pem",
            "ca-key.pem",
            "cert-chain.pem",
            "key.pem",
            "root-cert.pem"
        ]
    );
    assert_eq!(text(&secret, "ca-cert.pem"), text(&secret, "root-cert.pem"));
    assert_eq!(text(&secret, "key.pem"), "");
    let bundle = read(&secret, &options(), now).unwrap();
    assert_eq!(bundle.subject(), "O=td");
    assert_eq!(bundle.root_pem(), text(&secret, "ca-cert.pem"));
    // The same after it was deleted and restored.
    assert_eq!(restored(&bundle), secret);
}

#[test]
fn a_secret_of_1_1_is_read() {
    let now = SystemTime::now();
    let rsa = Options {
        kind: Kind::parse("rsa2048").unwrap(),
        ..options()
    };
    let mut secret = make(&rsa, now).unwrap();
    // Its root-cert.pem is empty, and its key is PKCS#1: the part of PKCS#8 after 26 bytes.
    let pem = text(&secret, "ca-key.pem");
    let der = rcgen::KeyPair::from_pem(&pem).unwrap().serialize_der();
    let key = base64::engine::general_purpose::STANDARD.encode(&der[26..]);
    let key = format!("-----BEGIN RSA PRIVATE KEY-----\n{key}\n-----END RSA PRIVATE KEY-----\n");
    let data = secret.data.as_mut().unwrap();
    data.insert("ca-key.pem".to_owned(), ByteString(key.into_bytes()));
    data.insert("root-cert.pem".to_owned(), ByteString::default());
    let extra = make(&options(), now).unwrap();
    let extra = text(&extra, "ca-cert.pem");
    let options = Options {
        extra_roots: extra.clone().into_bytes(),
        ..options()
    };
    let bundle = read(&secret, &options, now).unwrap();
    assert_eq!(bundle.root_pem(), text(&secret, "ca-cert.pem") + &extra);
}

#[test]
fn damage_is_named() {
    let now = SystemTime::now();
    let good = || {
        let mut secret = make(&options(), now).unwrap();
        secret.metadata.namespace = Some("ns".to_owned());
        secret
    };
    for (name, content, said) in [
        (
            "ca-cert.pem",
            "",
            "Secret ns/istio-ca-secret: ca-cert.pem is missing",
        ),
        ("ca-key.pem", "", "ca-key.pem is missing"),
        (
            "ca-cert.pem",
            "garbage",
            "no PEM certificate found; restore it",
        ),
        ("ca-key.pem", "garbage", "signing key"),
    ] {
        let mut secret = good();
        let data = secret.data.as_mut().unwrap();
        data.insert(name.to_owned(), ByteString(content.as_bytes().to_vec()));
        let error = read(&secret, &options(), now).unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    }
    let error = read(&good(), &options(), now + YEAR * 2).unwrap_err();
    assert!(error.to_string().contains("expired at"), "{error}");
    let mut foreign = good();
    let other = text(&good(), "ca-key.pem");
    let data = foreign.data.as_mut().unwrap();
    data.insert("ca-key.pem".to_owned(), ByteString(other.into_bytes()));
    let error = read(&foreign, &options(), now).unwrap_err().to_string();
    assert!(
        error.contains("does not match the signing certificate"),
        "{error}"
    );
}

#[test]
fn a_root_near_its_end_is_renewed_and_adopted() {
    let now = SystemTime::now();
    let secret = make(&options(), now).unwrap();
    let current = read(&secret, &options(), now).unwrap();
    assert!(
        renew(secret.clone(), &current, &options(), now)
            .unwrap()
            .is_none()
    );
    let later = now + YEAR * 9 / 10;
    let read_only = Options {
        read_only: true,
        ..options()
    };
    assert!(
        renew(secret.clone(), &current, &read_only, later)
            .unwrap()
            .is_none()
    );
    let (renewed, bundle) = renew(secret.clone(), &current, &options(), later)
        .unwrap()
        .unwrap();
    assert_eq!(text(&renewed, "ca-key.pem"), text(&secret, "ca-key.pem"));
    assert_eq!(text(&renewed, "root-cert.pem"), bundle.root_pem());
    assert!(bundle.validity().1 > current.validity().1);

    let same = compare(&secret, &current, &options(), later).unwrap();
    assert!(matches!(same, Change::None));
    let Change::Adopted(adopted) = compare(&renewed, &current, &options(), later).unwrap() else {
        panic!("not adopted");
    };
    assert_eq!(adopted.certificate(), bundle.certificate());
}

#[test]
fn a_root_with_another_key_is_not_adopted() {
    let now = SystemTime::now();
    let current = read(&make(&options(), now).unwrap(), &options(), now).unwrap();
    let error = compare(&make(&options(), now).unwrap(), &current, &options(), now).unwrap_err();
    assert!(error.to_string().contains("another key or name"), "{error}");
}
