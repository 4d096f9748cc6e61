//! Which signing requests are accepted. Only the key of a request is ever used.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use mesh_core::spiffe::Identity;
use rcgen::{PublicKeyData, SignatureAlgorithm, SubjectPublicKeyInfo};
use x509_parser::certification_request::X509CertificationRequest;
use x509_parser::extensions::{GeneralName, ParsedExtension};
use x509_parser::oid_registry::{
    OID_EC_P256, OID_KEY_TYPE_EC_PUBLIC_KEY, OID_NIST_EC_P384, OID_PKCS1_RSAENCRYPTION,
    OID_PKCS1_RSASSAPSS, OID_PKCS1_SHA256WITHRSA, OID_PKCS1_SHA384WITHRSA, OID_PKCS1_SHA512WITHRSA,
    OID_SIG_ECDSA_WITH_SHA256, OID_SIG_ECDSA_WITH_SHA384,
};
use x509_parser::prelude::FromDer;
use x509_parser::public_key::{PublicKey as ParsedKey, RSAPublicKey};
use x509_parser::x509::X509Version;

use super::Error;

/// Accepted sizes of RSA moduli, in bits.
const RSA_BITS: std::ops::RangeInclusive<usize> = 2048..=8192;

/// Smallest accepted RSA exponent.
const MIN_EXPONENT: u64 = 65_537;

/// Accepted PEM labels.
const LABELS: [&str; 2] = ["CERTIFICATE REQUEST", "NEW CERTIFICATE REQUEST"];

/// The key of a validated request, which was signed with that key.
#[derive(Clone, Debug)]
pub struct PublicKey {
    key: SubjectPublicKeyInfo,
    uris: Vec<String>,
    has_names: bool,
}

impl PublicKey {
    /// Whether the request has a subject alternative name at all.
    #[must_use]
    pub fn has_names(&self) -> bool {
        self.has_names
    }

    /// Whether the request asks for a URI name other than `identity`.
    #[must_use]
    pub fn names_others(&self, identity: &Identity) -> bool {
        let own = identity.to_string();
        self.uris.iter().any(|uri| *uri != own)
    }
}

impl PublicKeyData for PublicKey {
    fn der_bytes(&self) -> &[u8] {
        self.key.der_bytes()
    }

    fn algorithm(&self) -> &'static SignatureAlgorithm {
        self.key.algorithm()
    }
}

fn refused(reason: impl Into<String>) -> Error {
    Error::Csr(reason.into())
}

/// Validates a request in PEM: exactly one block, a valid signature with its own key and SHA-256 or
/// better, and a key that Envoy can serve and that is strong enough.
///
/// # Errors
/// [`Error::Csr`] with the first reason found.
pub fn parse(pem: &[u8]) -> Result<PublicKey, Error> {
    let der = single_block(pem)
        .ok_or_else(|| refused("certificate signing request is not properly encoded"))?;
    let malformed = || refused("failed to parse X.509 certificate signing request");
    let (rest, request) = X509CertificationRequest::from_der(&der).map_err(|_| malformed())?;
    if !rest.is_empty() || request.certification_request_info.version != X509Version::V1 {
        return Err(malformed());
    }
    check_digest(&request)?;
    check_key(&request)?;
    request
        .verify_signature()
        .map_err(|_| refused("certificate signing request is not signed with its own key"))?;
    let key = SubjectPublicKeyInfo::from_der(request.certification_request_info.subject_pki.raw)
        .map_err(|_| refused("key of the certificate signing request has an unknown encoding"))?;
    let mut uris = Vec::new();
    let mut has_names = false;
    for extension in request.requested_extensions().into_iter().flatten() {
        if let ParsedExtension::SubjectAlternativeName(names) = extension {
            has_names = true;
            uris.extend(names.general_names.iter().filter_map(|name| match name {
                GeneralName::URI(uri) => Some((*uri).to_owned()),
                _ => None,
            }));
        }
    }
    Ok(PublicKey {
        key,
        uris,
        has_names,
    })
}

/// The content of the only PEM block. Text before it is allowed, as some tools write it; after it
/// only white space.
fn single_block(pem: &[u8]) -> Option<Vec<u8>> {
    let text = std::str::from_utf8(pem).ok()?;
    let (_, from_label) = text.split_once("-----BEGIN ")?;
    let (label, body) = from_label.split_once("-----")?;
    if !LABELS.contains(&label) {
        return None;
    }
    let (body, after) = body.split_once(&format!("-----END {label}-----"))?;
    if !after.trim().is_empty() || body.contains('-') {
        return None;
    }
    let digits: String = body.chars().filter(|c| !c.is_ascii_whitespace()).collect();
    STANDARD.decode(digits).ok()
}

fn check_digest(request: &X509CertificationRequest<'_>) -> Result<(), Error> {
    // PSS states its digest in parameters; the verifier accepts only SHA-256 and better.
    let accepted = [
        OID_PKCS1_SHA256WITHRSA,
        OID_PKCS1_SHA384WITHRSA,
        OID_PKCS1_SHA512WITHRSA,
        OID_PKCS1_RSASSAPSS,
        OID_SIG_ECDSA_WITH_SHA256,
        OID_SIG_ECDSA_WITH_SHA384,
    ];
    if accepted.contains(&request.signature_algorithm.algorithm) {
        Ok(())
    } else {
        Err(refused(format!(
            "the signature algorithm {} of the certificate signing request is not accepted, \
             want RSA or ECDSA with SHA-256 or better",
            request.signature_algorithm.algorithm
        )))
    }
}

fn check_key(request: &X509CertificationRequest<'_>) -> Result<(), Error> {
    let info = &request.certification_request_info.subject_pki;
    let wrong = || refused("the key of the certificate signing request cannot be parsed");
    let algorithm = &info.algorithm.algorithm;
    if *algorithm == OID_PKCS1_RSAENCRYPTION {
        match info.parsed().map_err(|_| wrong())? {
            ParsedKey::RSA(key) => check_rsa(&key),
            _ => Err(wrong()),
        }
    } else if *algorithm == OID_KEY_TYPE_EC_PUBLIC_KEY {
        let curve = info
            .algorithm
            .parameters
            .as_ref()
            .and_then(|parameters| parameters.as_oid().ok())
            .ok_or_else(wrong)?;
        let length = if curve == OID_EC_P256 {
            65
        } else if curve == OID_NIST_EC_P384 {
            97
        } else {
            return Err(refused(format!(
                "the curve {curve} is not accepted, want P-256 or P-384"
            )));
        };
        // Uncompressed points only; the signature check proves that they are on the curve.
        let point = info.subject_public_key.data.as_ref();
        if point.len() == length && point.first() == Some(&4) {
            Ok(())
        } else {
            Err(wrong())
        }
    } else {
        Err(refused(format!(
            "key type {algorithm} is not accepted, want RSA of 2048 bits or more, P-256 or P-384"
        )))
    }
}

fn check_rsa(key: &RSAPublicKey<'_>) -> Result<(), Error> {
    let bits = key.key_size();
    if !RSA_BITS.contains(&bits) {
        return Err(refused(format!(
            "the RSA key has {bits} bits, want 2048 to 8192"
        )));
    }
    let exponent = key.try_exponent().unwrap_or(0);
    if exponent < MIN_EXPONENT || exponent.is_multiple_of(2) {
        return Err(refused(
            "the RSA exponent is not accepted, want an odd number of at least 65537",
        ));
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use rcgen::{CertificateParams, KeyPair, SanType};

    use super::*;

    fn request_with(key: &KeyPair, uris: &[&str]) -> String {
        let mut params = CertificateParams::default();
        params.distinguished_name = rcgen::DistinguishedName::new();
        params.subject_alt_names = uris
            .iter()
            .map(|uri| SanType::URI((*uri).try_into().unwrap()))
            .collect();
        params.serialize_request(key).unwrap().pem().unwrap()
    }

    fn reason(pem: &str) -> String {
        match parse(pem.as_bytes()) {
            Err(Error::Csr(reason)) => reason,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn accepts_the_keys_that_envoy_serves() {
        for algorithm in [
            &rcgen::PKCS_ECDSA_P256_SHA256,
            &rcgen::PKCS_ECDSA_P384_SHA384,
            &rcgen::PKCS_RSA_SHA256,
        ] {
            let key = KeyPair::generate_for(algorithm).unwrap();
            let parsed =
                parse(request_with(&key, &["spiffe://cluster.local/ns/a/sa/b"]).as_bytes())
                    .unwrap();
            assert_eq!(parsed.der_bytes(), key.der_bytes());
            assert!(parsed.has_names());
            assert!(!parsed.names_others(&"spiffe://cluster.local/ns/a/sa/b".parse().unwrap()));
            assert!(parsed.names_others(&"spiffe://cluster.local/ns/a/sa/c".parse().unwrap()));
        }
    }

    #[test]
    fn refuses_other_curves_and_kinds() {
        let ed25519 = KeyPair::generate_for(&rcgen::PKCS_ED25519).unwrap();
        assert!(reason(&request_with(&ed25519, &[])).contains("signature algorithm"));
        let p521 = KeyPair::generate_for(&rcgen::PKCS_ECDSA_P521_SHA256).unwrap();
        assert!(reason(&request_with(&p521, &[])).contains("curve"));
    }

    #[test]
    fn refuses_what_is_not_one_block() {
        let key = KeyPair::generate().unwrap();
        let good = request_with(&key, &[]);
        let encoding = "certificate signing request is not properly encoded";
        assert_eq!(reason(""), encoding);
        assert_eq!(reason("junk"), encoding);
        assert_eq!(reason(&format!("{good}{good}")), encoding);
        assert_eq!(reason(&format!("{good}x")), encoding);
        assert_eq!(
            reason(&good.replace("CERTIFICATE REQUEST", "CERTIFICATE")),
            encoding
        );
        assert!(parse(format!("{good}\n \n").as_bytes()).is_ok());
        assert!(parse(good.replace("CERTIFICATE", "NEW CERTIFICATE").as_bytes()).is_ok());
    }

    #[test]
    fn refuses_bad_der_and_forged_signatures() {
        let junk = "-----BEGIN CERTIFICATE REQUEST-----\nAAAA\n-----END CERTIFICATE REQUEST-----\n";
        assert_eq!(
            reason(junk),
            "failed to parse X.509 certificate signing request"
        );
        let key = KeyPair::generate().unwrap();
        let mut params = CertificateParams::default();
        params
            .distinguished_name
            .push(rcgen::DnType::CommonName, "a-name-to-change");
        let request = params.serialize_request(&key).unwrap();
        let mut der = request.der().to_vec();
        let at = der
            .windows(8)
            .position(|window| window == b"a-name-t")
            .unwrap();
        der[at] = b'b';
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(&der)
        );
        assert!(reason(&pem).contains("not signed with its own key"));
        der.push(0);
        let pem = format!(
            "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
            STANDARD.encode(&der)
        );
        assert!(reason(&pem).contains("failed to parse"));
    }

    #[test]
    fn rsa_bounds() {
        let modulus = |bits: usize| {
            let mut bytes = vec![0xff; bits / 8];
            bytes.insert(0, 0);
            bytes
        };
        let check = |bits, exponent: &[u8]| {
            let modulus = modulus(bits);
            check_rsa(&RSAPublicKey {
                modulus: &modulus,
                exponent,
            })
        };
        assert!(check(2048, &[1, 0, 1]).is_ok());
        assert!(check(8192, &[1, 0, 1]).is_ok());
        assert!(check(1024, &[1, 0, 1]).is_err());
        assert!(check(16384, &[1, 0, 1]).is_err());
        assert!(check(2048, &[3]).is_err());
        assert!(check(2048, &[1, 0, 2]).is_err());
    }

    proptest! {
        #[test]
        fn damaged_requests_never_panic(at in 0usize..300, value: u8) {
            let key = KeyPair::generate().unwrap();
            let mut params = CertificateParams::default();
            params.subject_alt_names = vec![SanType::URI("spiffe://a/ns/b/sa/c".try_into().unwrap())];
            let mut der = params.serialize_request(&key).unwrap().der().to_vec();
            let at = at % der.len();
            der[at] = value;
            let pem = format!(
                "-----BEGIN CERTIFICATE REQUEST-----\n{}\n-----END CERTIFICATE REQUEST-----\n",
                STANDARD.encode(&der)
            );
            let _ = parse(pem.as_bytes());
        }
    }
}
