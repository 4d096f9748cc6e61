//! The metadata that every object has.

use std::collections::BTreeMap;
use std::sync::Arc;

use prost_types::Timestamp;

use super::field::{Field, FieldError};

/// Namespace of an object that names none.
pub const DEFAULT_NAMESPACE: &str = "default";

/// Written by `kubectl apply`; as large as the object itself and of no use to a proxy.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The part of an object's metadata that is used.
#[derive(Debug, Clone, PartialEq)]
pub struct Metadata {
    /// Namespace; empty for cluster-scoped objects.
    pub namespace: Arc<str>,
    /// Name.
    pub name: Arc<str>,
    /// Labels.
    pub labels: BTreeMap<String, String>,
    /// Annotations, without what `kubectl apply` notes for itself.
    pub annotations: BTreeMap<String, String>,
    /// Creation time, if known.
    pub created: Option<Timestamp>,
}

impl Metadata {
    /// Reads `metadata` of the object `root`.
    ///
    /// # Errors
    /// Names the first field that cannot be used.
    pub fn read(root: &Field<'_>, namespaced: bool) -> Result<Self, FieldError> {
        let metadata = root.get("metadata")?;
        let name = metadata.get("name")?;
        let word = |field: &Field<'_>, text: &str| -> Result<Arc<str>, FieldError> {
            if text.len() > 253 || text.contains(|c: char| c == '/' || c.is_whitespace()) {
                return Err(field.error(format!(
                    "{text:?} is not a valid name: want up to 253 letters, digits, dots and dashes"
                )));
            }
            Ok(text.into())
        };
        let Some(text) = name.text()?.filter(|name| !name.is_empty()) else {
            return Err(name.error("the object has no name"));
        };
        let name = word(&name, text)?;
        let namespace = metadata.get("namespace")?;
        let namespace: Arc<str> = match namespace.text()?.filter(|name| !name.is_empty()) {
            _ if !namespaced => "".into(),
            None => DEFAULT_NAMESPACE.into(),
            Some(text) => word(&namespace, text)?,
        };
        let created = metadata.get("creationTimestamp")?;
        let created = match created.text()? {
            None => None,
            Some(text) => Some(text.parse::<Timestamp>().map_err(|_| {
                created.error(format!(
                    "{text:?} is not a valid time: want one such as 2006-01-02T15:04:05Z"
                ))
            })?),
        };
        let labels = metadata.get("labels")?.text_map()?;
        let mut annotations = metadata.get("annotations")?.text_map()?;
        annotations.remove(LAST_APPLIED);
        Ok(Self {
            namespace,
            name,
            labels,
            annotations,
            created,
        })
    }
}
