//! Validation of the authority's response before it is used.

use std::time::{Duration, SystemTime};

use rustls_pki_types::CertificateDer;
use x509_parser::{extensions::GeneralName, prelude::*};
use zeroize::Zeroizing;

use super::{Workload, key::Request, trust::parse_one};

/// Why a response cannot be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Fewer than two elements.
    #[error("the authority's response has {0} certificates: want at least a leaf and a root")]
    TooFew(usize),
    /// An element is not a certificate.
    #[error("element {0} of the authority's response is not a PEM certificate")]
    Syntax(usize),
    /// The certificate is for another key.
    #[error("the issued certificate does not match the key of the request")]
    OtherKey,
    /// The chain does not verify against the root in the response.
    #[error("the issued certificate does not verify: {0}")]
    Chain(String),
}

/// A valid response.
#[derive(Debug, Clone)]
pub struct Issued {
    /// Certificate and key.
    pub workload: Workload,
    /// The authority's root bundle, PEM.
    pub roots: String,
    /// The URI name of the leaf, which is the workload's identity whatever was requested.
    pub identity: Option<String>,
}

/// Validates the response to `request`, received at `now`.
///
/// # Errors
/// See [`Error`].
pub fn check(answer: &[String], request: &Request, now: SystemTime) -> Result<Issued, Error> {
    let [leaf, middle @ .., roots] = answer else {
        return Err(Error::TooFew(answer.len()));
    };
    for (at, element) in answer.iter().enumerate() {
        if super::trust::split(element).0.is_empty() {
            return Err(Error::Syntax(at));
        }
    }
    let der = parse_one(leaf).ok_or(Error::Syntax(0))?;
    let (_, parsed) = X509Certificate::from_der(&der).map_err(|_| Error::Syntax(0))?;
    if parsed.public_key().subject_public_key.data.as_ref() != request.public_key {
        return Err(Error::OtherKey);
    }
    let identity = parsed
        .subject_alternative_name()
        .ok()
        .flatten()
        .and_then(|names| {
            names
                .value
                .general_names
                .iter()
                .find_map(|name| match name {
                    GeneralName::URI(uri) => Some((*uri).to_owned()),
                    _ => None,
                })
        });
    let intermediates: Vec<String> = middle
        .iter()
        .flat_map(|element| super::trust::split(element).0)
        .collect();
    verify(&der, &intermediates, roots, now).map_err(Error::Chain)?;
    let mut chain = String::new();
    for element in std::iter::once(leaf).chain(middle) {
        chain.push_str(element.trim());
        chain.push('\n');
    }
    let workload = Workload {
        key: request.key_pem.clone(),
        chain,
        not_after: end(&parsed),
        created: now,
    };
    Ok(Issued {
        workload,
        roots: roots.clone(),
        identity,
    })
}

/// A key and certificate chain from files, if they match.
///
/// # Errors
/// A message that says what is wrong.
pub fn pair(key: &str, chain: &str, now: SystemTime) -> Result<Workload, String> {
    use rustls_pki_types::{PrivateKeyDer, pem::PemObject as _};

    let (certificates, _) = super::trust::split(chain);
    let leaf = certificates
        .first()
        .and_then(|leaf| parse_one(leaf))
        .ok_or("the chain file has no certificate")?;
    let (_, parsed) = X509Certificate::from_der(&leaf)
        .map_err(|error| format!("cannot parse the certificate: {error}"))?;
    let private = PrivateKeyDer::from_pem_slice(key.as_bytes())
        .map_err(|error| format!("cannot parse the private key: {error}"))?;
    let provider = rustls::crypto::aws_lc_rs::default_provider();
    let signer = provider
        .key_provider
        .load_private_key(private)
        .map_err(|error| format!("cannot use the private key: {error}"))?;
    let certified =
        rustls::sign::CertifiedKey::new(vec![CertificateDer::from(leaf.clone())], signer);
    certified
        .keys_match()
        .map_err(|error| format!("the key does not match the certificate: {error}"))?;
    Ok(Workload {
        key: Zeroizing::new(key.to_owned()),
        chain: chain.to_owned(),
        not_after: end(&parsed),
        created: now,
    })
}

fn end(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = u64::try_from(certificate.validity().not_after.timestamp()).unwrap_or(0);
    SystemTime::UNIX_EPOCH
        .checked_add(Duration::from_secs(seconds))
        .unwrap_or(SystemTime::UNIX_EPOCH)
}

fn verify(
    leaf: &[u8],
    intermediates: &[String],
    roots: &str,
    now: SystemTime,
) -> Result<(), String> {
    use rustls::{
        RootCertStore, client::verify_server_cert_signed_by_trust_anchor, pki_types::UnixTime,
        server::ParsedCertificate,
    };

    let mut store = RootCertStore::empty();
    for root in super::trust::split(roots).0 {
        let der = parse_one(&root).ok_or("cannot parse a root certificate")?;
        store
            .add(CertificateDer::from(der))
            .map_err(|error| format!("cannot use a root certificate: {error}"))?;
    }
    let intermediates: Vec<CertificateDer<'_>> = intermediates
        .iter()
        .filter_map(|pem| parse_one(pem))
        .map(CertificateDer::from)
        .collect();
    let leaf = CertificateDer::from(leaf);
    let leaf = ParsedCertificate::try_from(&leaf).map_err(|error| error.to_string())?;
    let now = now
        .duration_since(SystemTime::UNIX_EPOCH)
        .map_err(|error| error.to_string())?;
    verify_server_cert_signed_by_trust_anchor(
        &leaf,
        &store,
        &intermediates,
        UnixTime::since_unix_epoch(now),
        rustls::crypto::aws_lc_rs::default_provider()
            .signature_verification_algorithms
            .all,
    )
    .map_err(|error| error.to_string())
}

#[cfg(test)]
mod tests {
    use rcgen::{
        BasicConstraints, CertificateParams, CertificateSigningRequestParams, CertifiedIssuer,
        IsCa, KeyPair,
    };

    use super::*;
    use crate::secret::key::{Algorithm, request};

    fn authority() -> CertifiedIssuer<'static, KeyPair> {
        let mut params = CertificateParams::default();
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        CertifiedIssuer::self_signed(params, KeyPair::generate().unwrap()).unwrap()
    }

    fn sign(by: &CertifiedIssuer<'static, KeyPair>, request: &Request) -> String {
        CertificateSigningRequestParams::from_pem(&request.csr_pem)
            .unwrap()
            .signed_by(by)
            .unwrap()
            .pem()
    }

    #[test]
    fn a_good_answer_is_taken_apart() {
        let authority = authority();
        let made = request("spiffe://td/ns/a/sa/b", Algorithm::EcdsaP256).unwrap();
        let answer = [sign(&authority, &made), authority.pem()];
        let issued = check(&answer, &made, SystemTime::now()).unwrap();
        assert_eq!(issued.identity.as_deref(), Some("spiffe://td/ns/a/sa/b"));
        assert!(issued.workload.is_valid(SystemTime::now()));
        assert_eq!(issued.workload.chain.matches("BEGIN").count(), 1);
        assert!(pair(&made.key_pem, &issued.workload.chain, SystemTime::now()).is_ok());
    }

    #[test]
    fn bad_answers_are_refused() {
        let (ours, foreign) = (authority(), authority());
        let made = request("spiffe://td/ns/a/sa/b", Algorithm::EcdsaP256).unwrap();
        let other = request("spiffe://td/ns/a/sa/b", Algorithm::EcdsaP256).unwrap();
        let of = |answer: &[String]| check(answer, &made, SystemTime::now()).unwrap_err();
        assert_eq!(of(&[sign(&ours, &made)]), Error::TooFew(1));
        assert_eq!(
            of(&[sign(&ours, &made), "rubbish".to_owned()]),
            Error::Syntax(1)
        );
        assert_eq!(of(&[sign(&ours, &other), ours.pem()]), Error::OtherKey);
        assert!(matches!(
            of(&[sign(&ours, &made), foreign.pem()]),
            Error::Chain(_)
        ));
        assert!(
            pair(&other.key_pem, &sign(&ours, &made), SystemTime::now())
                .unwrap_err()
                .contains("does not match")
        );
    }
}
