//! Reads the objects of a JSON document: Istio's kinds, and those that a caller adds.
//!
//! galley reads its files with it, and so does every tool that must agree with galley.

mod field;
mod key;
mod metadata;
mod spec;

use serde_json::Value;

use crate::collections::{self, Collection};
use crate::object::{Meta, Object};

pub use field::{Field, FieldError};
pub use key::Key;
pub use metadata::{DEFAULT_NAMESPACE, Metadata};
pub use spec::encode;

/// Kinds that a caller reads in addition to Istio's.
pub trait Native: Sized {
    /// Group and kind as constants, and whether objects have a namespace; `None` for kinds that
    /// are not read.
    fn kind(group: &str, kind: &str) -> Option<(&'static str, &'static str, bool)>;

    /// Reads the object of a kind that [`Self::kind`] knows.
    ///
    /// # Errors
    /// Names the first field that cannot be used.
    fn read(kind: &str, metadata: &Metadata, object: &Value) -> Result<Self, FieldError>;
}

/// An object of Istio's kinds: kind, metadata and the encoded message.
#[derive(Debug, Clone, PartialEq)]
pub struct Config {
    /// Its collection.
    pub collection: &'static Collection,
    /// Its metadata.
    pub metadata: Metadata,
    /// The encoded message of [`Collection::message`].
    pub body: Vec<u8>,
}

impl Config {
    /// `namespace/name`, or `name` for a cluster-scoped object.
    #[must_use]
    pub fn full_name(&self) -> String {
        let Metadata {
            namespace, name, ..
        } = &self.metadata;
        if namespace.is_empty() {
            name.to_string()
        } else {
            format!("{namespace}/{name}")
        }
    }
}

impl From<&Config> for Object {
    fn from(config: &Config) -> Self {
        let metadata = &config.metadata;
        Self {
            meta: Meta {
                namespace: metadata.namespace.to_string(),
                name: metadata.name.to_string(),
                resource_version: String::new(),
                creation_timestamp: metadata.created,
                labels: metadata.labels.clone(),
                annotations: metadata.annotations.clone(),
            },
            collection: config.collection,
            body: config.body.clone().into(),
        }
    }
}

/// An object that can be used.
#[derive(Debug, Clone, PartialEq)]
pub enum Item<N> {
    /// Istio configuration.
    Config(Config),
    /// An object of a caller's kind.
    Native(N),
}

/// What a document (or an element of a list) holds.
#[derive(Debug)]
pub enum Found<N> {
    /// An object of a kind that is read. `item` has the errors if it cannot be used.
    Object {
        /// Its identity.
        key: Key,
        /// The object, or everything that is wrong with it.
        item: Result<Item<N>, Vec<FieldError>>,
        /// What is ignored.
        warnings: Vec<FieldError>,
    },
    /// An object of another kind: `apiVersion` and `kind`.
    Other(String),
    /// Not an object, or one of unknown identity.
    Nothing {
        /// What is known of it.
        object: String,
        /// Why it cannot be read.
        error: FieldError,
    },
}

/// Reads a document; lists are split. The second part is the path of the object in the
/// document, empty unless it is in a list.
#[must_use]
pub fn read<N: Native>(document: &Value) -> Vec<(String, Found<N>)> {
    let mut found = Vec::new();
    collect(document, String::new(), &mut found);
    found
}

fn collect<N: Native>(value: &Value, path: String, found: &mut Vec<(String, Found<N>)>) {
    let root = Field::root(value);
    let (api_version, kind) = match identity(&root) {
        Ok(identity) => identity,
        Err(error) => {
            found.push((
                path,
                Found::Nothing {
                    object: String::new(),
                    error,
                },
            ));
            return;
        }
    };
    let group = api_version.rsplit_once('/').map_or("", |(group, _)| group);
    if kind.ends_with("List") && value.get("items").is_some_and(Value::is_array) {
        for (i, item) in value
            .get("items")
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            let separator = if path.is_empty() { "" } else { "." };
            collect(item, format!("{path}{separator}items[{i}]"), found);
        }
        return;
    }
    let object = if let Some(collection) = collections::by_gvk(group, kind) {
        read_config(collection, value, &root)
    } else if let Some((group, kind, namespaced)) = N::kind(group, kind) {
        read_native(group, kind, namespaced, value, &root)
    } else {
        Found::Other(format!("{api_version} {kind}"))
    };
    found.push((path, object));
}

fn identity<'a>(root: &Field<'a>) -> Result<(&'a str, &'a str), FieldError> {
    let wanted = "want an object with apiVersion, kind and metadata";
    let (version, kind) = (root.get("apiVersion")?, root.get("kind")?);
    match (version.text()?, kind.text()?) {
        (Some(version), Some(kind)) if !version.is_empty() && !kind.is_empty() => {
            Ok((version, kind))
        }
        (_, None | Some("")) => Err(kind.error(format!("there is no kind: {wanted}"))),
        _ => Err(version.error(format!("there is no apiVersion: {wanted}"))),
    }
}

/// Identity of an object whose metadata may be wrong in other respects.
fn read_key(
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    value: &Value,
) -> Option<Key> {
    let metadata = value.get("metadata")?;
    let name = metadata
        .get("name")?
        .as_str()
        .filter(|name| !name.is_empty())?;
    let namespace = metadata.get("namespace").and_then(Value::as_str);
    let namespace = match namespace.filter(|name| !name.is_empty()) {
        _ if !namespaced => "",
        namespace => namespace.unwrap_or(DEFAULT_NAMESPACE),
    };
    Some(Key {
        group,
        kind,
        namespace: namespace.into(),
        name: name.into(),
    })
}

fn read_config<N>(collection: &'static Collection, value: &Value, root: &Field<'_>) -> Found<N> {
    let namespaced = collection.is_namespaced();
    let metadata = match Metadata::read(root, namespaced) {
        Ok(metadata) => metadata,
        Err(error) => {
            return unusable(collection.group, collection.kind, namespaced, value, error);
        }
    };
    let key = Key {
        group: collection.group,
        kind: collection.kind,
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    };
    let mut warnings = Vec::new();
    let known = ["apiVersion", "kind", "metadata", "spec", "status"];
    for name in value
        .as_object()
        .into_iter()
        .flat_map(|members| members.keys())
    {
        if !known.contains(&name.as_str()) {
            let message = format!("unknown field: want one of {}", known.join(", "));
            warnings.push(FieldError {
                path: name.clone(),
                message,
            });
        }
    }
    let item = spec::encode(collection, value.get("spec")).map(|(body, unknown)| {
        warnings.extend(unknown);
        Item::Config(Config {
            collection,
            metadata,
            body,
        })
    });
    Found::Object {
        key,
        item,
        warnings,
    }
}

fn read_native<N: Native>(
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    value: &Value,
    root: &Field<'_>,
) -> Found<N> {
    let metadata = match Metadata::read(root, namespaced) {
        Ok(metadata) => metadata,
        Err(error) => return unusable(group, kind, namespaced, value, error),
    };
    let key = Key {
        group,
        kind,
        namespace: metadata.namespace.clone(),
        name: metadata.name.clone(),
    };
    let item = N::read(kind, &metadata, value)
        .map(Item::Native)
        .map_err(|error| vec![error]);
    Found::Object {
        key,
        item,
        warnings: Vec::new(),
    }
}

fn unusable<N>(
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    value: &Value,
    error: FieldError,
) -> Found<N> {
    match read_key(group, kind, namespaced, value) {
        Some(key) => Found::Object {
            key,
            item: Err(vec![error]),
            warnings: Vec::new(),
        },
        None => Found::Nothing {
            object: kind.to_owned(),
            error,
        },
    }
}
