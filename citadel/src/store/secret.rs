//! The self-signed authority in the Secret `istio-ca-secret`, in Istio's format: reading it and its
//! desired content. Requests to the API server are in `cluster::root`.

use std::collections::BTreeMap;
use std::time::SystemTime;

use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use rcgen::PublicKeyData;
use zeroize::{Zeroize, Zeroizing};

use super::self_signed::{Options, same_certificate};
use super::{StoreError, root};
use crate::ca::Bundle;

/// Name of the Secret.
pub(crate) const NAME: &str = "istio-ca-secret";

/// Type of the Secret.
const TYPE: &str = "istio.io/ca-root";

const CERTIFICATE: &str = "ca-cert.pem";
const KEY: &str = "ca-key.pem";
const ROOTS: &str = "root-cert.pem";

/// Keys that Istio writes with empty values.
const EMPTY: [&str; 2] = ["cert-chain.pem", "key.pem"];

const ADVICE: &str = "restore it, or delete it and restart every citadel to start with a new \
                      root, which must then be distributed to all workloads";

/// Effect of a Secret on a process that already has a bundle.
#[derive(Debug)]
pub(crate) enum Change {
    /// Nothing.
    None,
    /// Another process renewed the root.
    Adopted(Box<Bundle>),
}

/// Overwrites secret data in an object that is no longer needed.
pub(crate) fn wipe(mut secret: Secret) {
    for ByteString(bytes) in secret.data.iter_mut().flat_map(BTreeMap::values_mut) {
        bytes.zeroize();
    }
}

fn place(secret: &Secret) -> String {
    let namespace = secret.metadata.namespace.as_deref().unwrap_or_default();
    format!("Secret {namespace}/{NAME}")
}

fn part<'a>(secret: &'a Secret, name: &str) -> Result<&'a [u8], StoreError> {
    let data = secret.data.as_ref();
    let found = data.and_then(|data| data.get(name));
    let found = found.filter(|ByteString(bytes)| !bytes.is_empty());
    let missing = || StoreError::Incomplete {
        path: place(secret),
        missing: name.to_owned(),
    };
    found
        .map(|ByteString(bytes)| bytes.as_slice())
        .ok_or_else(missing)
}

/// The bundle in a Secret.
pub(crate) fn read(
    secret: &Secret,
    options: &Options,
    now: SystemTime,
) -> Result<Bundle, StoreError> {
    let (certificate, key) = (part(secret, CERTIFICATE)?, part(secret, KEY)?);
    let bundle = options.bundle(key, certificate, now);
    bundle.map_err(|reason| StoreError::Unusable {
        path: place(secret),
        reason,
        advice: ADVICE,
    })
}

/// A Secret with a newly created key and root.
pub(crate) fn make(options: &Options, now: SystemTime) -> Result<Secret, StoreError> {
    let key = options.kind.generate();
    let key = key.map_err(|error| StoreError::Make(error.to_string()))?;
    let certificate = root::make(&key, &options.trust_domain, options.lifetime, now)?;
    Ok(content(&certificate, &key.serialize_pem().into()))
}

/// The Secret of the current bundle, to replace one that was deleted.
pub(crate) fn restored(bundle: &Bundle) -> Secret {
    let certificate = crate::ca::pem::certificate(bundle.certificate());
    content(&certificate, &bundle.key().serialize_pem().into())
}

fn content(certificate: &str, key: &Zeroizing<String>) -> Secret {
    let mut data: BTreeMap<_, _> = EMPTY
        .iter()
        .map(|name| ((*name).to_owned(), ByteString::default()))
        .collect();
    let mut put = |name: &str, text: &str| {
        data.insert(name.to_owned(), ByteString(text.as_bytes().to_vec()));
    };
    put(CERTIFICATE, certificate);
    put(ROOTS, certificate);
    put(KEY, key);
    let mut secret = Secret {
        type_: Some(TYPE.to_owned()),
        data: Some(data),
        ..Secret::default()
    };
    secret.metadata.name = Some(NAME.to_owned());
    secret
}

/// Whether a Secret holds the root of the current bundle.
pub(crate) fn is_of(secret: &Secret, current: &Bundle) -> bool {
    let certificate = part(secret, CERTIFICATE);
    certificate.is_ok_and(|certificate| same_certificate(certificate, current.certificate()))
}

/// The effect of a Secret on the current bundle. Only a root with the same key and subject is
/// accepted, as any other would cut off all workloads at once.
pub(crate) fn compare(
    secret: &Secret,
    current: &Bundle,
    options: &Options,
    now: SystemTime,
) -> Result<Change, StoreError> {
    if same_certificate(part(secret, CERTIFICATE)?, current.certificate()) {
        return Ok(Change::None);
    }
    let bundle = read(secret, options, now)?;
    if bundle.key().der_bytes() != current.key().der_bytes()
        || bundle.subject() != current.subject()
    {
        return Err(StoreError::Refused(format!(
            "{} holds another key or name than the current root, which all workloads trust; \
             restore it, or restart every citadel to switch to the new root at once",
            place(secret)
        )));
    }
    Ok(Change::Adopted(Box::new(bundle)))
}

/// The Secret with a renewed root and its bundle, if the current one is due for renewal. `secret`
/// is the Secret that the current bundle comes from.
pub(crate) fn renew(
    mut secret: Secret,
    current: &Bundle,
    options: &Options,
    now: SystemTime,
) -> Result<Option<(Secret, Bundle)>, StoreError> {
    if options.read_only || !options.is_due(current, now) {
        wipe(secret);
        return Ok(None);
    }
    let renewed = root::renew(current.certificate(), current.key(), options.lifetime, now)?;
    let data = secret.data.get_or_insert_default();
    for name in [CERTIFICATE, ROOTS] {
        let bytes = renewed.as_bytes().to_vec();
        data.insert(name.to_owned(), ByteString(bytes));
    }
    // Validated before it is written: the Secret never holds an unusable root.
    let bundle = read(&secret, options, now)?;
    Ok(Some((secret, bundle)))
}

#[cfg(test)]
mod tests;
