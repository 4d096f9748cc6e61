//! Workload keys and signing requests.

use std::fmt;

use rcgen::{
    CertificateParams, DistinguishedName, KeyPair, PKCS_ECDSA_P256_SHA256, PKCS_ECDSA_P384_SHA384,
    PKCS_RSA_SHA256, RsaKeySize, SanType,
};
use zeroize::Zeroizing;

/// Key types.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Algorithm {
    /// ECDSA on P-256.
    EcdsaP256,
    /// ECDSA on P-384.
    EcdsaP384,
    /// RSA with this number of bits: 2048, 3072 or 4096.
    Rsa(u16),
}

impl Algorithm {
    /// Parses the settings: signature algorithm (`ECDSA` or `RSA`), curve, RSA size in bits.
    ///
    /// # Errors
    /// If a value is not supported; the message begins with the name of the variable.
    pub fn parse(signature: &str, curve: &str, rsa_bits: Option<&str>) -> Result<Self, String> {
        match (signature, curve) {
            ("ECDSA", "P256") => Ok(Self::EcdsaP256),
            ("ECDSA", "P384") => Ok(Self::EcdsaP384),
            ("ECDSA", other) => Err(format!("ECC_CURVE: {other:?} is neither P256 nor P384")),
            ("RSA", _) => match rsa_bits.unwrap_or("2048") {
                "2048" => Ok(Self::Rsa(2048)),
                "3072" => Ok(Self::Rsa(3072)),
                "4096" => Ok(Self::Rsa(4096)),
                other => Err(format!(
                    "WORKLOAD_RSA_KEY_SIZE: {other:?} is not one of 2048, 3072 and 4096"
                )),
            },
            (other, _) => Err(format!(
                "ECC_SIGNATURE_ALGORITHM: {other:?} is neither ECDSA nor RSA"
            )),
        }
    }
}

/// A new key and its signing request. The key is wiped when dropped.
pub struct Request {
    /// Private key, PKCS #8, PEM.
    pub key_pem: Zeroizing<String>,
    /// Signing request, PEM.
    pub csr_pem: String,
    /// Public key as in the certificate (bit string of SubjectPublicKeyInfo).
    pub public_key: Vec<u8>,
}

impl fmt::Debug for Request {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Request").finish_non_exhaustive()
    }
}

/// Creates a key and a signing request for one URI name and an empty subject.
///
/// # Errors
/// If the identity is not a valid URI name or the cryptographic library fails.
pub fn request(identity: &str, algorithm: Algorithm) -> Result<Request, rcgen::Error> {
    let key = match algorithm {
        Algorithm::EcdsaP256 => KeyPair::generate_for(&PKCS_ECDSA_P256_SHA256)?,
        Algorithm::EcdsaP384 => KeyPair::generate_for(&PKCS_ECDSA_P384_SHA384)?,
        Algorithm::Rsa(4096) => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_4096)?,
        Algorithm::Rsa(3072) => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_3072)?,
        Algorithm::Rsa(_) => KeyPair::generate_rsa_for(&PKCS_RSA_SHA256, RsaKeySize::_2048)?,
    };
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    params.subject_alt_names = vec![SanType::URI(identity.try_into()?)];
    let csr = params.serialize_request(&key)?;
    Ok(Request {
        key_pem: Zeroizing::new(key.serialize_pem()),
        csr_pem: csr.pem()?,
        public_key: key.public_key_raw().to_vec(),
    })
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::*;

    use super::*;

    #[test]
    fn request_carries_the_identity_and_an_empty_subject() {
        for algorithm in [
            Algorithm::EcdsaP256,
            Algorithm::EcdsaP384,
            Algorithm::Rsa(2048),
        ] {
            let made = request("spiffe://cluster.local/ns/shop/sa/web", algorithm).unwrap();
            let (_, pem) = parse_x509_pem(made.csr_pem.as_bytes()).unwrap();
            let (_, csr) = X509CertificationRequest::from_der(&pem.contents).unwrap();
            csr.verify_signature().unwrap();
            assert_eq!(csr.certification_request_info.subject.iter().count(), 0);
            assert_eq!(
                csr.certification_request_info
                    .subject_pki
                    .subject_public_key
                    .data
                    .as_ref(),
                made.public_key
            );
            let names: Vec<String> = csr
                .requested_extensions()
                .unwrap()
                .filter_map(|extension| match extension {
                    ParsedExtension::SubjectAlternativeName(names) => {
                        Some(names.general_names.clone())
                    }
                    _ => None,
                })
                .flatten()
                .map(|name| format!("{name:?}"))
                .collect();
            assert_eq!(names, ["URI(\"spiffe://cluster.local/ns/shop/sa/web\")"]);
            assert!(made.key_pem.contains("BEGIN PRIVATE KEY"));
        }
    }

    #[test]
    fn unsupported_algorithms_are_named() {
        assert!(
            Algorithm::parse("ECDSA", "P521", None)
                .unwrap_err()
                .starts_with("ECC_CURVE")
        );
        assert!(
            Algorithm::parse("RSA", "P256", Some("1024"))
                .unwrap_err()
                .starts_with("WORKLOAD_RSA_KEY_SIZE")
        );
        assert_eq!(
            Algorithm::parse("RSA", "P256", None),
            Ok(Algorithm::Rsa(2048))
        );
    }
}
