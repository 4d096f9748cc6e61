//! Certificates, keys and trust anchors in PEM files.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustls::RootCertStore;
use rustls_pki_types::pem::{self, PemObject};
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use x509_parser::prelude::{FromDer, X509Certificate};

use super::Error;

/// Maximum size of a file, in bytes: a bundle of some hundred certificates.
const MAX_FILE: u64 = 1 << 20;

/// The three files of a process with a certificate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CertFiles {
    /// Own certificate, followed by its intermediates.
    pub cert_chain: PathBuf,
    /// Key of the first certificate: PKCS#1, SEC1 or PKCS#8.
    pub key: PathBuf,
    /// Trust anchors that verify peers.
    pub root: PathBuf,
}

impl CertFiles {
    /// `cert-chain.pem`, `key.pem` and `root-cert.pem` in a directory.
    #[must_use]
    pub fn in_dir(dir: impl AsRef<Path>) -> Self {
        let dir = dir.as_ref();
        Self {
            cert_chain: dir.join("cert-chain.pem"),
            key: dir.join("key.pem"),
            root: dir.join("root-cert.pem"),
        }
    }
}

/// A certificate chain with its key.
#[derive(Debug)]
pub struct KeyPair {
    /// Leaf first.
    pub chain: Vec<CertificateDer<'static>>,
    /// Private key of the leaf.
    pub key: PrivateKeyDer<'static>,
}

pub(super) fn read(path: &Path) -> Result<Vec<u8>, Error> {
    let failed = |source| Error::Read {
        path: path.display().to_string(),
        source,
    };
    let size = std::fs::metadata(path).map_err(failed)?.len();
    if size > MAX_FILE {
        return Err(wrong(
            path,
            format!("the file has {size} bytes, the limit is {MAX_FILE}"),
        ));
    }
    std::fs::read(path).map_err(failed)
}

fn wrong(path: &Path, reason: impl Into<String>) -> Error {
    Error::Content {
        path: path.display().to_string(),
        reason: reason.into(),
    }
}

/// All certificates in a PEM text, in order; other blocks are skipped.
///
/// # Errors
/// If a block is invalid.
pub fn certificates(pem: &[u8]) -> Result<Vec<CertificateDer<'static>>, pem::Error> {
    CertificateDer::pem_slice_iter(pem).collect()
}

/// Reads a certificate chain and its key. Whether they match is checked later, by
/// [`server_config`](super::server_config) or [`client_config`](super::client_config).
///
/// # Errors
/// If a file cannot be read or is invalid.
pub fn load_pair(chain: &Path, key: &Path) -> Result<KeyPair, Error> {
    let certificates = read_certificates(chain)?;
    let key_pem = read(key)?;
    let parsed = PrivateKeyDer::from_pem_slice(&key_pem)
        .map_err(|error| wrong(key, format!("want a private key in PEM: {error}")))?;
    Ok(KeyPair {
        chain: certificates,
        key: parsed,
    })
}

/// Reads trust anchors. An invalid certificate is an error: none is ignored silently.
///
/// # Errors
/// If the file cannot be read, or contains no certificate or an invalid one.
pub fn load_roots(path: &Path) -> Result<RootCertStore, Error> {
    let mut store = RootCertStore::empty();
    for certificate in read_certificates(path)? {
        store
            .add(certificate)
            .map_err(|error| wrong(path, format!("invalid trust anchor: {error}")))?;
    }
    Ok(store)
}

fn read_certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, Error> {
    let found = certificates(&read(path)?)
        .map_err(|error| wrong(path, format!("invalid certificate: {error}")))?;
    if found.is_empty() {
        return Err(wrong(path, "want at least one certificate in PEM"));
    }
    Ok(found)
}

/// Expiry of the certificate. `None` if it cannot be parsed.
#[must_use]
pub fn not_after(der: &[u8]) -> Option<SystemTime> {
    let (_, certificate) = X509Certificate::from_der(der).ok()?;
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    Some(UNIX_EPOCH + Duration::from_secs(seconds))
}
