//! Creation of self-signed roots.

use std::time::{Duration, SystemTime};

use mesh_core::spiffe::TrustDomain;
use rcgen::{
    BasicConstraints, CertificateParams, DistinguishedName, DnType, DnValue, IsCa, KeyIdMethod,
    KeyUsagePurpose, SerialNumber, SigningKey,
};
use time::OffsetDateTime;
use x509_parser::prelude::{FromDer, ParsedExtension, X509Certificate};

use super::StoreError;
use crate::ca::{leaf, pem};

/// Roots become valid this long before they are created.
const BACKDATE: Duration = Duration::from_secs(120);

fn failed(error: impl std::fmt::Display) -> StoreError {
    StoreError::Make(error.to_string())
}

/// The certificate of a new root for `key`, as PEM.
///
/// # Errors
/// [`StoreError::Make`]
pub fn make(
    key: &impl SigningKey,
    trust_domain: &TrustDomain,
    lifetime: Duration,
    now: SystemTime,
) -> Result<String, StoreError> {
    sign(key, trust_domain.as_str(), None, lifetime, now).map(|der| pem::certificate(&der))
}

/// A new root with the key, subject and key identifier of `old`, so that what was signed under one
/// verifies under the other; as PEM.
///
/// # Errors
/// [`StoreError::Make`] if [`make`] cannot reproduce the subject of `old`.
pub fn renew(
    old: &[u8],
    key: &impl SigningKey,
    lifetime: Duration,
    now: SystemTime,
) -> Result<String, StoreError> {
    let (_, certificate) = X509Certificate::from_der(old).map_err(failed)?;
    let organization = certificate
        .subject()
        .iter_organization()
        .next()
        .and_then(|name| name.as_str().ok())
        .unwrap_or_default();
    let key_id =
        certificate
            .extensions()
            .iter()
            .find_map(|extension| match extension.parsed_extension() {
                ParsedExtension::SubjectKeyIdentifier(id) => Some(id.0.to_vec()),
                _ => None,
            });
    let der = sign(key, organization, key_id, lifetime, now)?;
    let (_, renewed) = X509Certificate::from_der(&der).map_err(failed)?;
    if renewed.subject().as_raw() != certificate.subject().as_raw() {
        return Err(StoreError::Make(format!(
            "the subject {} cannot be kept",
            certificate.subject()
        )));
    }
    Ok(pem::certificate(&der))
}

fn sign(
    key: &impl SigningKey,
    organization: &str,
    key_id: Option<Vec<u8>>,
    lifetime: Duration,
    now: SystemTime,
) -> Result<Vec<u8>, StoreError> {
    let serial = leaf::serial().map_err(failed)?;
    let mut params = CertificateParams::default();
    params.distinguished_name = DistinguishedName::new();
    // PrintableString, as Istio writes it; an underscore is outside that alphabet.
    let name = organization.try_into().map_or_else(
        |_| DnValue::Utf8String(organization.to_owned()),
        DnValue::PrintableString,
    );
    params
        .distinguished_name
        .push(DnType::OrganizationName, name);
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    if let Some(key_id) = key_id {
        params.key_identifier_method = KeyIdMethod::PreSpecified(key_id);
    }
    params.not_before = OffsetDateTime::from(now - BACKDATE);
    params.not_after = OffsetDateTime::from(now + lifetime);
    let certificate = params.self_signed(key).map_err(failed)?;
    Ok(certificate.der().to_vec())
}
