//! A certificate authority and an API server for tests of the processes, behind the feature
//! `testing`.
#![allow(
    clippy::expect_used,
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test code"
)]

pub mod cluster;

use std::path::Path;

use rcgen::{
    BasicConstraints, CertificateParams, CertifiedIssuer, DistinguishedName,
    ExtendedKeyUsagePurpose, IsCa, KeyPair, KeyUsagePurpose, SanType,
};
use time::{Duration, OffsetDateTime};

use crate::tls::CertFiles;

/// Signs certificates for tests.
#[derive(Debug)]
pub struct Authority {
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, in PEM.
#[derive(Clone, Debug)]
pub struct Issued {
    /// Leaf certificate.
    pub cert: String,
    /// Its private key in PKCS#8.
    pub key: String,
    /// Certificate of the authority.
    pub root: String,
}

impl Authority {
    /// A new root with its own key.
    #[must_use]
    pub fn new(organization: &str) -> Self {
        let mut params = CertificateParams::default();
        params.distinguished_name = DistinguishedName::new();
        params
            .distinguished_name
            .push(rcgen::DnType::OrganizationName, organization);
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
        let key = KeyPair::generate().expect("generate a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("sign a root");
        Self { issuer }
    }

    /// Certificate of the authority in PEM.
    #[must_use]
    pub fn root(&self) -> String {
        self.issuer.pem()
    }

    /// A certificate for one hour with the given URI and DNS names (or addresses).
    #[must_use]
    pub fn issue(&self, uris: &[&str], dns: &[&str]) -> Issued {
        self.issue_for(uris, dns, Duration::hours(1))
    }

    /// As [`issue`](Self::issue), ending after `lifetime`; negative for an expired one.
    #[must_use]
    pub fn issue_for(&self, uris: &[&str], dns: &[&str], lifetime: Duration) -> Issued {
        let names: Vec<String> = dns.iter().map(|name| (*name).to_owned()).collect();
        let mut params = CertificateParams::new(names).expect("valid names");
        params.distinguished_name = DistinguishedName::new();
        params.subject_alt_names.extend(
            uris.iter()
                .map(|uri| SanType::URI((*uri).try_into().expect("ASCII"))),
        );
        let now = OffsetDateTime::now_utc();
        params.not_before = now - Duration::days(1);
        params.not_after = now + lifetime;
        params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
        params.extended_key_usages = vec![
            ExtendedKeyUsagePurpose::ServerAuth,
            ExtendedKeyUsagePurpose::ClientAuth,
        ];
        params.use_authority_key_identifier_extension = true;
        let key = KeyPair::generate().expect("generate a key");
        let cert = params.signed_by(&key, &self.issuer).expect("sign a leaf");
        Issued {
            cert: cert.pem(),
            key: key.serialize_pem(),
            root: self.root(),
        }
    }
}

impl Issued {
    /// Writes `cert-chain.pem`, `key.pem` and `root-cert.pem`.
    #[must_use]
    pub fn write(&self, dir: &Path) -> CertFiles {
        let files = CertFiles::in_dir(dir);
        for (path, content) in [
            (&files.cert_chain, &self.cert),
            (&files.key, &self.key),
            (&files.root, &self.root),
        ] {
            std::fs::write(path, content).expect("write a file");
        }
        files
    }
}
