//! The certificate of a component in its Secret `istio.<ServiceAccount>`, the name of 1.1: checking
//! an existing one, and the content of a new one.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use mesh_common::tls;
use mesh_core::spiffe::Identity;
use rcgen::{KeyPair, PublicKeyData};
use x509_parser::extensions::GeneralName;
use x509_parser::prelude::{FromDer, X509Certificate};

use super::service_account;
use crate::ca::{Bundle, Issued, leaf};

/// Type of Secrets that citadel creates and may replace.
const TYPE: &str = "istio.io/key-and-cert";

const CHAIN: &str = "cert-chain.pem";
const KEY: &str = "key.pem";
const ROOTS: &str = "root-cert.pem";

const ANNOTATION: &str = "istio.io/service-account.name";
const LABEL: (&str, &str) = ("istio.io/config", "true");
const OWNER: &str = "ServiceAccount";

/// Name of the Secret of a component.
pub(crate) fn name(component: &str) -> String {
    format!("istio.{}", service_account(component))
}

/// Requirements of a valid Secret.
#[derive(Debug)]
pub(crate) struct Wanted<'a> {
    pub(crate) component: &'a str,
    /// UID of the ServiceAccount.
    pub(crate) owner: &'a str,
    pub(crate) identity: &'a Identity,
    pub(crate) dns: &'a [String],
    /// The current bundle.
    pub(crate) bundle: &'a Bundle,
}

/// Why a Secret is not valid.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Fault {
    /// It belongs to somebody else.
    Foreign,
    /// It must be replaced, for this reason.
    Outdated(&'static str),
}

fn part<'a>(secret: &'a Secret, name: &str) -> &'a [u8] {
    let found = secret.data.as_ref().and_then(|data| data.get(name));
    found.map_or(&[], |ByteString(bytes)| bytes)
}

/// When to check the Secret again, if it is valid.
pub(crate) fn check(
    secret: &Secret,
    wanted: &Wanted<'_>,
    now: SystemTime,
) -> Result<SystemTime, Fault> {
    if secret.type_.as_deref() != Some(TYPE) {
        return Err(Fault::Foreign);
    }
    let outdated = |is_good: bool, why| {
        if is_good {
            Ok(())
        } else {
            Err(Fault::Outdated(why))
        }
    };
    let owners = secret.metadata.owner_references.iter().flatten();
    let mut owners = owners.filter(|owner| owner.kind == OWNER);
    outdated(
        owners.any(|owner| owner.uid == wanted.owner),
        "its ServiceAccount was recreated",
    )?;
    outdated(
        part(secret, ROOTS) == wanted.bundle.root_pem().as_bytes(),
        "the roots have changed",
    )?;
    let chain = tls::certificates(part(secret, CHAIN)).unwrap_or_default();
    let Some((first, intermediates)) = chain.split_first() else {
        return Err(Fault::Outdated("it has no certificate"));
    };
    outdated(
        intermediates == wanted.bundle.chain(),
        "the signing certificate has changed",
    )?;
    let Ok((_, certificate)) = X509Certificate::from_der(first) else {
        return Err(Fault::Outdated("its certificate cannot be parsed"));
    };
    let identity = Identity::from_certificate_der(first);
    outdated(
        identity.is_ok_and(|identity| identity == *wanted.identity)
            && dns_names(&certificate) == wanted.dns,
        "its names have changed",
    )?;
    let key = std::str::from_utf8(part(secret, KEY)).unwrap_or_default();
    let info = certificate.public_key();
    outdated(
        KeyPair::from_pem(key)
            .is_ok_and(|key| key.der_bytes() == info.subject_public_key.data.as_ref()),
        "its key does not match its certificate",
    )?;
    let renewal = half_life(&certificate);
    outdated(now < renewal, "half of its lifetime is over")?;
    Ok(renewal)
}

fn dns_names(certificate: &X509Certificate<'_>) -> Vec<String> {
    let names = certificate.subject_alternative_name().ok().flatten();
    let names = names.iter().flat_map(|names| &names.value.general_names);
    names
        .filter_map(|name| match name {
            GeneralName::DNSName(name) => Some((*name).to_owned()),
            _ => None,
        })
        .collect()
}

/// Halfway between issuance and expiry.
fn half_life(certificate: &X509Certificate<'_>) -> SystemTime {
    let seconds = |time: x509_parser::time::ASN1Time| {
        Duration::from_secs(u64::try_from(time.timestamp()).unwrap_or_default())
    };
    let validity = certificate.validity();
    let made = seconds(validity.not_before) + leaf::BACKDATE;
    let end = seconds(validity.not_after);
    UNIX_EPOCH + made + end.saturating_sub(made) / 2
}

/// The Secret with a new certificate; its other content is preserved.
pub(crate) fn content(found: Option<Secret>, wanted: &Wanted<'_>, issued: &Issued) -> Secret {
    let mut secret = found.unwrap_or_else(|| Secret {
        type_: Some(TYPE.to_owned()),
        ..Secret::default()
    });
    let account = service_account(wanted.component);
    let metadata = &mut secret.metadata;
    metadata.name = Some(name(wanted.component));
    let annotations = metadata.annotations.get_or_insert_default();
    annotations.insert(ANNOTATION.to_owned(), account.clone());
    let labels = metadata.labels.get_or_insert_default();
    labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    // Deleted together with its account.
    let owners = metadata.owner_references.get_or_insert_default();
    owners.retain(|owner| owner.kind != OWNER);
    owners.push(OwnerReference {
        api_version: "v1".to_owned(),
        kind: OWNER.to_owned(),
        name: account,
        uid: wanted.owner.to_owned(),
        ..OwnerReference::default()
    });
    let data = secret.data.get_or_insert_default();
    let mut put = |name: &str, text: &str| {
        data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec()));
    };
    put(CHAIN, &issued.chain_pem());
    put(KEY, &issued.key);
    put(ROOTS, issued.bundle.root_pem());
    secret
}

#[cfg(test)]
mod tests;
