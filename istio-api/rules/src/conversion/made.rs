//! Resulting objects.

use std::collections::BTreeMap;

use prost::Message;
use prost_types::Timestamp;

use super::{CONVERTED_FROM, Origin};
use crate::validation::{Severity, validate};
use istio_api::collections;
use istio_api::object::{Meta, Object};

const SECURITY: &str = "security.istio.io";

/// Metadata of an object that is made of `origins`: their joined versions, and the age of the
/// oldest.
pub(super) fn meta<'a>(
    namespace: &str,
    name: String,
    origins: impl IntoIterator<Item = &'a Origin>,
) -> Meta {
    let mut origins: Vec<&Origin> = origins.into_iter().collect();
    origins.sort();
    origins.dedup();
    let titles: Vec<String> = origins.iter().map(|one| one.title()).collect();
    let versions: Vec<&str> = origins.iter().map(|one| one.version.as_str()).collect();
    // An unknown age counts as the oldest, as in the order of objects.
    let oldest = origins.iter().map(|one| one.created).min().flatten();
    Meta {
        namespace: namespace.to_owned(),
        name,
        resource_version: versions.join(","),
        creation_timestamp: oldest.map(|(seconds, nanos)| Timestamp { seconds, nanos }),
        labels: BTreeMap::new(),
        annotations: [(CONVERTED_FROM.to_owned(), titles.join(", "))].into(),
    }
}

/// The object of a kind of `security.istio.io`.
///
/// # Errors
/// The first error of validation, with its path.
pub(super) fn security<T: Message>(kind: &str, meta: Meta, spec: &T) -> Result<Object, String> {
    let collection =
        collections::by_gvk(SECURITY, kind).ok_or_else(|| format!("{kind} is not a known kind"))?;
    let object = Object {
        meta,
        collection,
        body: spec.encode_to_vec().into(),
    };
    valid(object)
}

/// The object, unless validation refuses it.
///
/// # Errors
/// The first error of validation, with its path.
pub(super) fn valid(object: Object) -> Result<Object, String> {
    let refused = validate(&object)
        .into_iter()
        .find(|problem| problem.severity == Severity::Error);
    match refused {
        Some(problem) => Err(format!("{}: {}", problem.path, problem.message)),
        None => Ok(object),
    }
}
