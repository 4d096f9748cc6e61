//! Decodes objects.

use istio_api::{collections::Collection, object::Object};
use prost::Message;

use crate::{
    config::{Config, ConfigRef, Created, source_kind},
    hashed::Spec,
    key::ObjectKey,
};

/// Why an object was refused; its last good version stays in force.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind} {namespace}/{name}: {reason}")]
pub struct Refused {
    /// Kubernetes kind.
    pub kind: &'static str,
    /// Kubernetes namespace.
    pub namespace: String,
    /// Name inside the namespace.
    pub name: String,
    /// What is wrong, and what would be right.
    pub reason: String,
}

pub(super) fn refused(collection: &'static Collection, key: &ObjectKey, reason: String) -> Refused {
    Refused {
        kind: collection.kind,
        namespace: key.namespace.to_string(),
        name: key.name.to_string(),
        reason,
    }
}

/// Decodes an object of a kind and records its origin.
///
/// # Errors
/// If the body cannot be decoded.
pub(super) fn decode<T: Message + Default>(
    collection: &'static Collection,
    object: Option<&Object>,
) -> Result<Option<Config<T>>, Refused> {
    let Some(object) = object else {
        return Ok(None);
    };
    let meta = &object.meta;
    let spec = T::decode(object.body.clone()).map_err(|error| Refused {
        kind: collection.kind,
        namespace: meta.namespace.clone(),
        name: meta.name.clone(),
        reason: error.to_string(),
    })?;
    let created = meta
        .creation_timestamp
        .as_ref()
        .map_or_else(Created::default, |time| Created {
            seconds: time.seconds,
            nanos: time.nanos,
        });
    Ok(Some(Config {
        reference: ConfigRef {
            kind: source_kind(collection),
            namespace: meta.namespace.as_str().into(),
            name: meta.name.as_str().into(),
            version: meta.resource_version.as_str().into(),
        },
        created,
        labels: meta.labels.clone(),
        annotations: meta.annotations.clone(),
        spec: Spec(spec),
    }))
}
