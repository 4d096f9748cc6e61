//! Reads credentials from Secrets.

use std::time::{SystemTime, UNIX_EPOCH};

use bytes::Bytes;
use pilot_model::credential::Credential;
use rustls::{
    crypto::aws_lc_rs::sign::any_supported_type,
    pki_types::{CertificateDer, CertificateRevocationListDer, PrivateKeyDer, pem::PemObject},
};
use x509_parser::prelude::{FromDer, SubjectPublicKeyInfo, X509Certificate};

/// Values of a Secret by name; empty if there is none. Errors describe what is wrong without any
/// of the content.
pub(super) trait Values {
    fn value(&self, name: &'static str) -> Result<Bytes, String>;
}

/// The credential in a Secret; `None` if it has none of the names.
///
/// # Errors
/// What is wrong, without any of the content.
pub(super) fn credential(
    secret: &impl Values,
    now: SystemTime,
) -> Result<Option<Credential>, String> {
    let either = |generic, of_type| -> Result<Bytes, String> {
        let value = secret.value(generic)?;
        if value.is_empty() {
            return secret.value(of_type);
        }
        Ok(value)
    };
    let (mut certificate, mut key) = (secret.value("cert")?, secret.value("key")?);
    // One of the two is not a pair: many Secrets have a value named `key`.
    if certificate.is_empty() || key.is_empty() {
        (certificate, key) = (secret.value("tls.crt")?, secret.value("tls.key")?);
    }
    let mut credential = Credential {
        certificate,
        key,
        ca: either("cacert", "ca.crt")?,
        crl: either("crl", "ca.crl")?,
        staple: secret.value("tls.ocsp-staple")?,
        version: 0,
        fault: None,
    };
    if credential.certificate.is_empty() && credential.key.is_empty() && credential.ca.is_empty() {
        return Ok(None);
    }
    check(&credential, now)?;
    let mut hash = xxhash_rust::xxh3::Xxh3::new();
    for part in [
        &credential.certificate,
        &credential.key,
        &credential.ca,
        &credential.crl,
        &credential.staple,
    ] {
        hash.update(&(part.len() as u64).to_le_bytes());
        hash.update(part);
    }
    credential.version = hash.digest();
    Ok(Some(credential))
}

/// Checks that Envoy accepts it, as it would reject the rest of the response, too.
fn check(credential: &Credential, now: SystemTime) -> Result<(), String> {
    if credential.certificate.is_empty() != credential.key.is_empty() {
        return Err("tls.crt and tls.key must both be set".to_owned());
    }
    if !credential.certificate.is_empty() {
        let chain = certificates(&credential.certificate, "the certificate")?;
        check_pair(&chain, &credential.key, now)?;
    }
    if !credential.ca.is_empty() {
        certificates(&credential.ca, "the CA bundle")?;
    }
    if !credential.crl.is_empty() {
        let lists = CertificateRevocationListDer::pem_slice_iter(&credential.crl);
        if !matches!(lists.collect::<Result<Vec<_>, _>>(), Ok(lists) if !lists.is_empty()) {
            return Err("the revocation list is not PEM".to_owned());
        }
    }
    Ok(())
}

fn certificates(pem: &[u8], what: &str) -> Result<Vec<CertificateDer<'static>>, String> {
    let found: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(pem).collect();
    let found = found.ok().filter(|found| !found.is_empty());
    let found = found.ok_or_else(|| format!("{what} is not PEM"))?;
    if found
        .iter()
        .any(|one| X509Certificate::from_der(one).is_err())
    {
        return Err(format!("{what} contains an invalid certificate"));
    }
    Ok(found)
}

fn check_pair(chain: &[CertificateDer<'_>], key: &[u8], now: SystemTime) -> Result<(), String> {
    let unusable = || "the key is not PEM of an EC key or an RSA key of at least 2048 bits";
    let key = PrivateKeyDer::from_pem_slice(key).map_err(|_| unusable())?;
    let key = any_supported_type(&key).map_err(|_| unusable())?;
    let public = key.public_key().ok_or_else(unusable)?;
    let (_, public) = SubjectPublicKeyInfo::from_der(&public).map_err(|_| unusable())?;
    let leaf = chain.first().map(|leaf| X509Certificate::from_der(leaf));
    let Some(Ok((_, leaf))) = leaf else {
        return Err("the first certificate is invalid".to_owned());
    };
    if leaf.public_key().subject_public_key.data != public.subject_public_key.data {
        return Err("the key does not belong to the first certificate".to_owned());
    }
    let now = now.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ends = leaf.validity().not_after;
    if u64::try_from(ends.timestamp()).unwrap_or_default() < now {
        return Err(format!("the certificate ended at {ends}"));
    }
    Ok(())
}

/// Decodes a value of a Secret.
pub(super) fn decode(name: &str, base64: &str) -> Result<Bytes, String> {
    use base64::Engine as _;
    let text: String = base64.split_whitespace().collect();
    let decoded = base64::engine::general_purpose::STANDARD.decode(text);
    let decoded = decoded.map(Bytes::from);
    decoded.map_err(|_| format!("data.{name} is not base64"))
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use mesh_common::testing::Authority;

    use super::*;

    impl Values for BTreeMap<&'static str, String> {
        fn value(&self, name: &'static str) -> Result<Bytes, String> {
            Ok(self.get(name).cloned().unwrap_or_default().into())
        }
    }

    fn read(values: &[(&'static str, &str)]) -> Result<Option<Credential>, String> {
        let values = values
            .iter()
            .map(|(name, text)| (*name, (*text).to_owned()));
        credential(&values.collect::<BTreeMap<_, _>>(), SystemTime::now())
    }

    #[test]
    fn generic_names_win_and_a_part_of_a_pair_does_not() {
        let authority = Authority::new("test");
        let (one, two) = (authority.issue(&[], &["a"]), authority.issue(&[], &["b"]));
        let tls = [("tls.crt", &*two.cert), ("tls.key", &*two.key)];
        let generic = [("cert", &*one.cert), ("key", &*one.key)];
        let both = read(&[tls, generic].concat()).unwrap().unwrap();
        assert_eq!(both.certificate, one.cert);
        assert_eq!(both.key, one.key);
        let half = [("key", "something"), ("ca.crt", &*one.root)];
        let half = read(&[&tls[..], &half].concat()).unwrap().unwrap();
        assert_eq!(
            (&half.certificate[..], &half.ca[..]),
            (two.cert.as_bytes(), one.root.as_bytes())
        );
        let roots = [("cacert", &*one.root), ("ca.crt", "other")];
        let roots = read(&roots).unwrap().unwrap();
        assert_eq!(roots.ca, one.root);
        assert_ne!(roots.version, half.version);
        assert_eq!(read(&[("key", "something"), ("password", "x")]), Ok(None));
    }

    #[test]
    fn what_envoy_would_refuse_is_an_error_without_the_content() {
        let authority = Authority::new("test");
        let (one, two) = (authority.issue(&[], &["a"]), authority.issue(&[], &["b"]));
        let (good, key) = (("tls.crt", &*one.cert), ("tls.key", &*one.key));
        for (wanted, values) in [
            ("both", vec![good]),
            ("both", vec![key]),
            ("first certificate", vec![good, ("tls.key", &two.key)]),
            ("certificate is not PEM", vec![("tls.crt", "HUSH"), key]),
            ("key is not PEM", vec![good, ("tls.key", "HUSH")]),
            ("CA bundle is not PEM", vec![good, key, ("ca.crt", "HUSH")]),
            ("revocation list", vec![good, key, ("crl", "HUSH")]),
        ] {
            let error = read(&values).unwrap_err();
            assert!(error.contains(wanted) && !error.contains("HUSH"), "{error}");
        }
        let old = authority.issue_for(&[], &["a"], time::Duration::hours(-1));
        let old = [("tls.crt", &*old.cert), ("tls.key", &*old.key)];
        let error = read(&old).unwrap_err();
        assert!(error.contains("ended at"), "{error}");
        let error = decode("tls.key", "HUSH!").unwrap_err();
        assert_eq!(error, "data.tls.key is not base64");
    }
}
