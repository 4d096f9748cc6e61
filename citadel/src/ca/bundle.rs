//! Key, certificates and trust anchors of the authority, validated as a whole before use.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use mesh_common::tls;
use rcgen::{Issuer, KeyPair, PublicKeyData, RsaKeySize};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, UnixTime};
use x509_parser::prelude::{FromDer, X509Certificate};
use x509_parser::public_key::PublicKey as ParsedKey;

use super::leaf::{self, Leaf, Names};
use super::{Error, pem};

/// Accepted types of signing keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// RSA; the size applies to new keys.
    Rsa(Bits),
    /// ECDSA on P-256.
    P256,
    /// ECDSA on P-384.
    P384,
}

/// Sizes of new RSA keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bits {
    /// 2048 bits.
    B2048,
    /// 3072 bits.
    B3072,
    /// 4096 bits.
    B4096,
}

impl Kind {
    /// Generates a key.
    ///
    /// # Errors
    /// [`Error::CertGen`] if the cryptographic library fails.
    pub fn generate(self) -> Result<KeyPair, Error> {
        let rsa = |size| KeyPair::generate_rsa_for(&rcgen::PKCS_RSA_SHA256, size);
        Ok(match self {
            Self::Rsa(Bits::B2048) => rsa(RsaKeySize::_2048),
            Self::Rsa(Bits::B3072) => rsa(RsaKeySize::_3072),
            Self::Rsa(Bits::B4096) => rsa(RsaKeySize::_4096),
            Self::P256 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256),
            Self::P384 => KeyPair::generate_for(&rcgen::PKCS_ECDSA_P384_SHA384),
        }?)
    }

    /// Parses the value of `--self-signed-ca-key`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "rsa2048" => Self::Rsa(Bits::B2048),
            "rsa3072" => Self::Rsa(Bits::B3072),
            "rsa4096" => Self::Rsa(Bits::B4096),
            "p256" => Self::P256,
            "p384" => Self::P384,
            _ => return None,
        })
    }
}

/// Why a bundle cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BundleError {
    /// The signing certificate cannot be used.
    #[error("signing certificate: {0}")]
    Certificate(String),
    /// The signing key cannot be used.
    #[error("signing key: {0}")]
    Key(String),
    /// The intermediates cannot be used.
    #[error("certificate chain: {0}")]
    Chain(String),
    /// The trust anchors cannot be used.
    #[error("root certificates: {0}")]
    Root(String),
    /// A certificate signed with the bundle does not verify.
    #[error("a certificate signed with this bundle does not verify: {0}")]
    Probe(String),
}

/// PEM texts of a bundle.
#[derive(Clone, Copy, Debug)]
pub struct Material<'a> {
    /// Signing certificate; only the first block is used.
    pub certificate: &'a [u8],
    /// Certificates from the signer up, with or without the root; may be empty.
    pub chain: &'a [u8],
    /// One or more trust anchors.
    pub roots: &'a [u8],
}

/// A validated bundle; immutable.
pub struct Bundle {
    issuer: Issuer<'static, KeyPair>,
    certificate: CertificateDer<'static>,
    has_key_id: bool,
    subject: String,
    serial: String,
    validity: (SystemTime, SystemTime),
    chain_end: SystemTime,
    intermediates: Vec<String>,
    chain: Vec<CertificateDer<'static>>,
    roots: Vec<CertificateDer<'static>>,
    root_pem: String,
    kind: Kind,
}

impl std::fmt::Debug for Bundle {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bundle")
            .field("subject", &self.subject)
            .field("serial", &self.serial)
            .field("roots", &self.roots.len())
            .finish_non_exhaustive()
    }
}

fn system_time(time: x509_parser::time::ASN1Time) -> SystemTime {
    // A certificate that ended before 1970 is expired, whatever the exact second.
    UNIX_EPOCH + Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or(0))
}

fn validity(certificate: &X509Certificate<'_>) -> (SystemTime, SystemTime) {
    let validity = certificate.validity();
    (
        system_time(validity.not_before),
        system_time(validity.not_after),
    )
}

fn check_time(certificate: &X509Certificate<'_>, now: SystemTime) -> Result<(), String> {
    let (from, to) = validity(certificate);
    if now > to {
        return Err(format!("expired at {}", certificate.validity().not_after));
    }
    // The clock of its issuer may be ahead.
    if now + leaf::BACKDATE < from {
        return Err(format!(
            "not valid before {}",
            certificate.validity().not_before
        ));
    }
    Ok(())
}

/// Parses certificates; `what` wraps the error.
fn read(
    pem: &[u8],
    what: fn(String) -> BundleError,
) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    tls::certificates(pem).map_err(|error| what(format!("invalid PEM: {error}")))
}

impl Bundle {
    /// Validates the material and signs a test certificate with it.
    ///
    /// # Errors
    /// The first fault found.
    pub fn new(material: &Material<'_>, key: &[u8], now: SystemTime) -> Result<Self, BundleError> {
        let certificate = read(material.certificate, BundleError::Certificate)?
            .into_iter()
            .next()
            .ok_or_else(|| BundleError::Certificate("no PEM certificate found".to_owned()))?;
        let key = parse_key(key)?;
        let (kind, parsed_facts) = check_signer(&certificate, &key, now)?;
        let roots = read_roots(material.roots, now)?;
        let chain = read_chain(material.chain, &certificate, &roots, now)?;
        let issuer = Issuer::from_ca_cert_der(&certificate, key).map_err(|error| {
            BundleError::Certificate(format!("it cannot be used as an issuer: {error}"))
        })?;
        let chain_end = chain
            .iter()
            .filter_map(|certificate| tls::not_after(certificate))
            .fold(parsed_facts.validity.1, SystemTime::min);
        let bundle = Self {
            issuer,
            has_key_id: parsed_facts.has_key_id,
            subject: parsed_facts.subject,
            serial: parsed_facts.serial,
            validity: parsed_facts.validity,
            chain_end,
            intermediates: chain.iter().map(|der| pem::certificate(der)).collect(),
            root_pem: roots.iter().map(|der| pem::certificate(der)).collect(),
            certificate,
            chain,
            roots,
            kind,
        };
        bundle.probe(now)?;
        Ok(bundle)
    }

    /// Signs `key`. The certificate never outlives any certificate of its chain.
    pub(super) fn sign(
        &self,
        key: &impl PublicKeyData,
        names: &Names<'_>,
        ttl: Duration,
        common_name: bool,
        now: SystemTime,
    ) -> Result<Leaf, Error> {
        if self.chain_end <= now {
            return Err(Error::CertGen(
                "the signing certificate has expired".to_owned(),
            ));
        }
        let not_before = whole_seconds(now - leaf::BACKDATE);
        let not_after = whole_seconds((now + ttl).min(self.chain_end));
        let serial = leaf::serial()?;
        let params = leaf::params(
            names,
            serial,
            (not_before, not_after),
            common_name,
            self.has_key_id,
        )?;
        let certificate = params.signed_by(key, &self.issuer)?;
        Ok(Leaf {
            pem: pem::certificate(certificate.der()),
            der: certificate.der().to_vec(),
            serial: serial.iter().map(|byte| format!("{byte:02x}")).collect(),
            not_before,
            not_after,
        })
    }

    /// A certificate of this bundle must verify against its anchors and repeat the signer's subject
    /// byte by byte: libraries encode names differently.
    fn probe(&self, now: SystemTime) -> Result<(), BundleError> {
        let failed = |error: String| BundleError::Probe(error);
        let key = Kind::P256
            .generate()
            .map_err(|error| failed(error.to_string()))?;
        let names = Names {
            identity: None,
            dns: &["probe".to_owned()],
        };
        let leaf = self
            .sign(&key, &names, Duration::from_secs(60), false, now)
            .map_err(|error| failed(error.to_string()))?;
        let (_, made) =
            X509Certificate::from_der(&leaf.der).map_err(|error| failed(error.to_string()))?;
        let (_, signer) = X509Certificate::from_der(&self.certificate)
            .map_err(|error| failed(error.to_string()))?;
        if made.issuer().as_raw() != signer.subject().as_raw() {
            return Err(failed(format!(
                "the subject {:?} cannot be repeated byte by byte as the issuer",
                self.subject
            )));
        }
        let der = CertificateDer::from(leaf.der.as_slice());
        let end_entity =
            webpki::EndEntityCert::try_from(&der).map_err(|error| failed(error.to_string()))?;
        let anchors = self
            .roots
            .iter()
            .map(webpki::anchor_from_trusted_cert)
            .collect::<Result<Vec<_>, _>>()
            .map_err(|error| BundleError::Root(error.to_string()))?;
        let since = now.duration_since(UNIX_EPOCH).unwrap_or_default();
        end_entity
            .verify_for_usage(
                webpki::ALL_VERIFICATION_ALGS,
                &anchors,
                &self.chain,
                UnixTime::since_unix_epoch(since),
                webpki::KeyUsage::client_auth(),
                None,
                None,
            )
            .map_err(|error| failed(error.to_string()))?;
        Ok(())
    }

    /// Signing certificate, as DER.
    #[must_use]
    pub fn certificate(&self) -> &[u8] {
        &self.certificate
    }

    /// Subject of the signing certificate.
    #[must_use]
    pub fn subject(&self) -> &str {
        &self.subject
    }

    /// Serial number of the signing certificate, hexadecimal.
    #[must_use]
    pub fn serial(&self) -> &str {
        &self.serial
    }

    /// Validity of the signing certificate.
    #[must_use]
    pub fn validity(&self) -> (SystemTime, SystemTime) {
        self.validity
    }

    /// Certificates between a leaf and the roots, one PEM text each, the signer first. Empty when
    /// the signer is a root.
    #[must_use]
    pub fn intermediates(&self) -> &[String] {
        &self.intermediates
    }

    /// The same as DER.
    #[must_use]
    pub fn chain(&self) -> &[CertificateDer<'static>] {
        &self.chain
    }

    /// All trust anchors in one PEM text.
    #[must_use]
    pub fn root_pem(&self) -> &str {
        &self.root_pem
    }

    /// All trust anchors as DER.
    #[must_use]
    pub fn roots(&self) -> &[CertificateDer<'static>] {
        &self.roots
    }

    /// Type of the signing key; RSA is always reported as 2048 bits.
    #[must_use]
    pub fn kind(&self) -> Kind {
        self.kind
    }

    /// The signing key, to renew the root with the same key.
    #[must_use]
    pub fn key(&self) -> &KeyPair {
        self.issuer.key()
    }
}

/// X.509 times have no fractions of a second.
fn whole_seconds(time: SystemTime) -> SystemTime {
    let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
    UNIX_EPOCH + Duration::from_secs(since.as_secs())
}

fn parse_key(key: &[u8]) -> Result<KeyPair, BundleError> {
    let der = PrivateKeyDer::from_pem_slice(key)
        .map_err(|_| BundleError::Key("no private key in PEM found".to_owned()))?;
    KeyPair::try_from(&der).map_err(|_| BundleError::Key("it cannot be parsed".to_owned()))
}

struct Facts {
    subject: String,
    serial: String,
    has_key_id: bool,
    validity: (SystemTime, SystemTime),
}

fn check_signer(der: &[u8], key: &KeyPair, now: SystemTime) -> Result<(Kind, Facts), BundleError> {
    let wrong = BundleError::Certificate;
    let (_, certificate) =
        X509Certificate::from_der(der).map_err(|_| wrong("it cannot be parsed".to_owned()))?;
    check_time(&certificate, now).map_err(wrong)?;
    let constraints = certificate
        .basic_constraints()
        .map_err(|_| wrong("its basic constraints are invalid".to_owned()))?;
    if !constraints.is_some_and(|extension| extension.value.ca) {
        return Err(wrong(
            "it is not a CA certificate (basic constraints)".to_owned(),
        ));
    }
    let usage = certificate
        .key_usage()
        .map_err(|_| wrong("its key usage is invalid".to_owned()))?;
    if usage.is_some_and(|extension| !extension.value.key_cert_sign()) {
        return Err(wrong(
            "its key usage does not allow signing certificates".to_owned(),
        ));
    }
    let info = certificate.public_key();
    if info.subject_public_key.data.as_ref() != key.der_bytes() {
        return Err(BundleError::Key(
            "it does not match the signing certificate".to_owned(),
        ));
    }
    let algorithm = key.algorithm();
    let kind = if *algorithm == rcgen::PKCS_RSA_SHA256 {
        match info.parsed() {
            Ok(ParsedKey::RSA(rsa)) if rsa.key_size() >= 2048 => Kind::Rsa(Bits::B2048),
            _ => {
                return Err(BundleError::Key(
                    "RSA keys need at least 2048 bits".to_owned(),
                ));
            }
        }
    } else if *algorithm == rcgen::PKCS_ECDSA_P256_SHA256 {
        Kind::P256
    } else if *algorithm == rcgen::PKCS_ECDSA_P384_SHA384 {
        Kind::P384
    } else {
        return Err(BundleError::Key(
            "unsupported key type: want RSA, ECDSA P-256 or ECDSA P-384".to_owned(),
        ));
    };
    let has_key_id = certificate.iter_extensions().any(|extension| {
        extension.oid == x509_parser::oid_registry::OID_X509_EXT_SUBJECT_KEY_IDENTIFIER
    });
    let facts = Facts {
        subject: certificate.subject().to_string(),
        serial: certificate
            .raw_serial()
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect(),
        has_key_id,
        validity: validity(&certificate),
    };
    Ok((kind, facts))
}

fn read_roots(pem: &[u8], now: SystemTime) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let mut roots = read(pem, BundleError::Root)?;
    roots.dedup();
    let valid = |der: &CertificateDer<'_>| {
        X509Certificate::from_der(der).is_ok_and(|(_, root)| check_time(&root, now).is_ok())
    };
    if roots.is_empty() {
        return Err(BundleError::Root("no PEM certificate found".to_owned()));
    }
    if !roots.iter().any(valid) {
        return Err(BundleError::Root(
            "none of them is currently valid".to_owned(),
        ));
    }
    Ok(roots)
}

/// The certificates sent between leaf and root: the chain without roots, the signer first.
fn read_chain(
    pem: &[u8],
    signer: &CertificateDer<'static>,
    roots: &[CertificateDer<'static>],
    now: SystemTime,
) -> Result<Vec<CertificateDer<'static>>, BundleError> {
    let mut chain: Vec<_> = read(pem, BundleError::Chain)?
        .into_iter()
        .filter(|certificate| !roots.contains(certificate))
        .collect();
    if !roots.contains(signer) && !chain.contains(signer) {
        chain.insert(0, signer.clone());
    }
    for der in &chain {
        let (_, certificate) = X509Certificate::from_der(der)
            .map_err(|_| BundleError::Chain("a certificate cannot be parsed".to_owned()))?;
        check_time(&certificate, now)
            .map_err(|reason| BundleError::Chain(format!("{}: {reason}", certificate.subject())))?;
    }
    Ok(chain)
}
