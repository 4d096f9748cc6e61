use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, IsCa, Issuer, KeyPair,
    KeyUsagePurpose,
};

use super::*;

/// A chain of authorities: the first is the root, the last one signs.
struct Chain {
    certificates: Vec<String>,
    key: String,
}

fn authority(name: &str) -> CertificateParams {
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params
        .distinguished_name
        .push(DnType::OrganizationName, "Example");
    params.distinguished_name.push(DnType::CommonName, name);
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign];
    params.use_authority_key_identifier_extension = true;
    params
}

fn chain(length: usize, algorithm: &'static rcgen::SignatureAlgorithm) -> Chain {
    let mut key = KeyPair::generate_for(algorithm).unwrap();
    let mut params = authority("root");
    let mut certificates = vec![params.self_signed(&key).unwrap().pem()];
    for number in 1..length {
        let next_key = KeyPair::generate_for(algorithm).unwrap();
        let next = authority(&format!("intermediate {number}"));
        let certificate = next
            .signed_by(&next_key, &Issuer::from_params(&params, &key))
            .unwrap();
        certificates.push(certificate.pem());
        (key, params) = (next_key, next);
    }
    Chain {
        certificates,
        key: key.serialize_pem(),
    }
}

impl Chain {
    fn signer(&self) -> &str {
        self.certificates.last().unwrap()
    }

    fn write(&self, dir: &Path) {
        let upward: String = self.certificates.iter().rev().map(String::as_str).collect();
        for (name, content) in [
            ("ca-cert.pem", self.signer()),
            ("ca-key.pem", self.key.as_str()),
            ("cert-chain.pem", upward.as_str()),
            ("root-cert.pem", self.certificates[0].as_str()),
        ] {
            fs::write(dir.join(name), content).unwrap();
        }
    }
}

fn load(dir: &Path) -> Result<Bundle, StoreError> {
    Plugged::find(dir)?.unwrap().load(SystemTime::now())
}

#[test]
fn chains_of_every_length_and_kind_sign() {
    for algorithm in [
        &rcgen::PKCS_RSA_SHA256,
        &rcgen::PKCS_ECDSA_P256_SHA256,
        &rcgen::PKCS_ECDSA_P384_SHA384,
    ] {
        for length in 1..=3 {
            let dir = tempfile::tempdir().unwrap();
            chain(length, algorithm).write(dir.path());
            let bundle = load(dir.path()).unwrap();
            assert_eq!(bundle.intermediates().len(), length - 1);
            assert_eq!(bundle.roots().len(), 1);
        }
    }
}

#[test]
fn the_layout_of_tls_secrets_is_read() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(2, &rcgen::PKCS_ECDSA_P256_SHA256);
    fs::write(dir.path().join("tls.crt"), chain.signer()).unwrap();
    fs::write(dir.path().join("tls.key"), &chain.key).unwrap();
    fs::write(dir.path().join("ca.crt"), &chain.certificates[0]).unwrap();
    let bundle = load(dir.path()).unwrap();
    assert_eq!(bundle.intermediates(), [chain.signer()]);
}

#[test]
fn missing_files_are_named() {
    for name in [
        "ca-cert.pem",
        "ca-key.pem",
        "cert-chain.pem",
        "root-cert.pem",
    ] {
        let dir = tempfile::tempdir().unwrap();
        chain(2, &rcgen::PKCS_ECDSA_P256_SHA256).write(dir.path());
        fs::remove_file(dir.path().join(name)).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(
            error.contains(name) && error.contains("incomplete"),
            "{error}"
        );
    }
    let error = Plugged::from_flags("cert.pem", "", "", "")
        .unwrap_err()
        .to_string();
    assert!(error.contains("--signing-key, --root-cert"), "{error}");
}

#[test]
fn an_empty_directory_or_extra_roots_are_no_authority() {
    let dir = tempfile::tempdir().unwrap();
    assert_eq!(Plugged::find(dir.path()).unwrap(), None);
    assert_eq!(Plugged::find(&dir.path().join("none")).unwrap(), None);
    assert!(extra_roots(&dir.path().join("none")).unwrap().is_empty());
    let root = chain(1, &rcgen::PKCS_ECDSA_P256_SHA256);
    fs::write(dir.path().join("root-cert.pem"), &root.certificates[0]).unwrap();
    assert_eq!(Plugged::find(dir.path()).unwrap(), None);
    assert_eq!(
        extra_roots(dir.path()).unwrap(),
        root.certificates[0].as_bytes()
    );
}

#[test]
fn flags_may_leave_the_chain_out() {
    let dir = tempfile::tempdir().unwrap();
    let chain = chain(2, &rcgen::PKCS_ECDSA_P256_SHA256);
    chain.write(dir.path());
    let path = |name: &str| dir.path().join(name).display().to_string();
    let plugged = Plugged::from_flags(
        &path("ca-cert.pem"),
        &path("ca-key.pem"),
        "",
        &path("root-cert.pem"),
    )
    .unwrap();
    // The signer is sent along: otherwise nobody could verify its certificates.
    assert_eq!(
        plugged.load(SystemTime::now()).unwrap().intermediates(),
        [chain.signer()]
    );
}

#[test]
fn unusable_sets_are_refused() {
    let base = chain(2, &rcgen::PKCS_ECDSA_P256_SHA256);
    let other = chain(2, &rcgen::PKCS_ECDSA_P256_SHA256);
    let leaf = mesh_common::testing::Authority::new("x").issue(&[], &["a"]);
    for (name, content, said) in [
        (
            "ca-key.pem",
            other.key.as_str(),
            "does not match the signing certificate",
        ),
        (
            "root-cert.pem",
            other.certificates[0].as_str(),
            "does not verify",
        ),
        ("ca-cert.pem", leaf.cert.as_str(), "not a CA certificate"),
        ("ca-cert.pem", "", "no PEM certificate"),
        (
            "cert-chain.pem",
            "-----BEGIN CERTIFICATE-----\n????\n-----END CERTIFICATE-----\n",
            "invalid PEM",
        ),
    ] {
        let dir = tempfile::tempdir().unwrap();
        base.write(dir.path());
        fs::write(dir.path().join(name), content).unwrap();
        let error = load(dir.path()).unwrap_err().to_string();
        assert!(error.contains(said), "{name}: {error}");
    }
}

#[test]
fn a_new_intermediate_is_taken_and_a_new_root_is_not() {
    let dir = tempfile::tempdir().unwrap();
    chain(2, &rcgen::PKCS_ECDSA_P256_SHA256).write(dir.path());
    let plugged = Plugged::find(dir.path()).unwrap().unwrap();
    let now = SystemTime::now();
    let first = plugged.load(now).unwrap();
    assert!(plugged.reload(&first, false, now).unwrap().is_none());

    let other = chain(2, &rcgen::PKCS_ECDSA_P256_SHA256);
    other.write(dir.path());
    let error = plugged.reload(&first, false, now).unwrap_err().to_string();
    assert!(error.contains("--multi-root"), "{error}");
    assert!(
        plugged
            .reload(&first, true, now)
            .unwrap_err()
            .to_string()
            .contains("add the new ones first")
    );

    let both = format!("{}{}", first.root_pem(), other.certificates[0]);
    fs::write(dir.path().join("root-cert.pem"), both).unwrap();
    let second = plugged.reload(&first, true, now).unwrap().unwrap();
    assert_eq!(second.roots().len(), 2);
    fs::write(dir.path().join("root-cert.pem"), &other.certificates[0]).unwrap();
    assert_eq!(
        plugged
            .reload(&second, true, now)
            .unwrap()
            .unwrap()
            .roots()
            .len(),
        1
    );
}
