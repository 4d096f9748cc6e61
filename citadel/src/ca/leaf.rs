//! Profile of the certificates that citadel issues.

use std::time::{Duration, SystemTime};

use mesh_core::spiffe::Identity;
use rcgen::{
    CertificateParams, CustomExtension, DistinguishedName, DnType, ExtendedKeyUsagePurpose, IsCa,
    KeyUsagePurpose, SanType, SerialNumber,
};
use time::OffsetDateTime;

use super::Error;

/// Certificates become valid this long before they are issued, for peers whose clocks are behind.
pub(crate) const BACKDATE: Duration = Duration::from_secs(120);

/// Maximum length of a common name in X.509.
const MAX_COMMON_NAME: usize = 64;

/// Object identifier of basic constraints.
const BASIC_CONSTRAINTS: [u64; 4] = [2, 5, 29, 19];

/// Basic constraints with their defaults: not a CA.
const EMPTY_SEQUENCE: [u8; 2] = [0x30, 0];

/// Names of a certificate.
#[derive(Clone, Copy, Debug)]
pub struct Names<'a> {
    /// Its SPIFFE identity.
    pub identity: Option<&'a Identity>,
    /// DNS names; only for the control plane itself.
    pub dns: &'a [String],
}

/// An issued certificate.
#[derive(Clone, Debug)]
pub struct Leaf {
    /// As DER.
    pub der: Vec<u8>,
    /// As PEM, ending with one newline.
    pub pem: String,
    /// Serial number in hexadecimal.
    pub serial: String,
    /// First moment of validity.
    pub not_before: SystemTime,
    /// Last moment of validity.
    pub not_after: SystemTime,
}

/// 127 random bits, never zero.
pub(crate) fn serial() -> Result<[u8; 16], Error> {
    let mut bytes = [0u8; 16];
    aws_lc_rs::rand::fill(&mut bytes)
        .map_err(|_| Error::CertGen("cannot get random numbers".to_owned()))?;
    let [first, .., last] = &mut bytes;
    *first &= 0x7f;
    // One value in 2^120 has only zeros before it; the bit keeps that one from being zero.
    *last |= 1;
    Ok(bytes)
}

/// All fields but the key. Extensions: key usage, extended key usage, basic constraints, names and,
/// if the signer has a subject key identifier, the authority key identifier.
pub(super) fn params(
    names: &Names<'_>,
    serial: [u8; 16],
    validity: (SystemTime, SystemTime),
    common_name: bool,
    authority_key_id: bool,
) -> Result<CertificateParams, Error> {
    let mut params = CertificateParams::default();
    // The default has a common name. With an empty subject the names become critical.
    params.distinguished_name = DistinguishedName::new();
    params.serial_number = Some(SerialNumber::from_slice(&serial));
    (params.not_before, params.not_after) = (
        OffsetDateTime::from(validity.0),
        OffsetDateTime::from(validity.1),
    );
    // Not through `is_ca`: that adds a subject key identifier, which the profile does not have.
    params.is_ca = IsCa::NoCa;
    let mut no_authority =
        CustomExtension::from_oid_content(&BASIC_CONSTRAINTS, EMPTY_SEQUENCE.to_vec());
    no_authority.set_criticality(true);
    params.custom_extensions.push(no_authority);
    params.key_usages = vec![
        KeyUsagePurpose::DigitalSignature,
        KeyUsagePurpose::KeyEncipherment,
    ];
    params.extended_key_usages = vec![
        ExtendedKeyUsagePurpose::ServerAuth,
        ExtendedKeyUsagePurpose::ClientAuth,
    ];
    params.use_authority_key_identifier_extension = authority_key_id;
    let uri = names.identity.map(Identity::to_string);
    if let Some(uri) = &uri {
        params
            .subject_alt_names
            .push(SanType::URI(uri.as_str().try_into()?));
    }
    for name in names.dns {
        params
            .subject_alt_names
            .push(SanType::DnsName(name.as_str().try_into()?));
    }
    if common_name && let Some(first) = uri.as_ref().or_else(|| names.dns.first()) {
        if first.len() <= MAX_COMMON_NAME {
            params
                .distinguished_name
                .push(DnType::CommonName, first.as_str());
        } else {
            tracing::info!(name = %first, "name too long for a common name, left out");
        }
    }
    Ok(params)
}
