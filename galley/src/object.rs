//! From a JSON document to an object that is either distributed or synthesised from.

mod spec;

use std::sync::Arc;

use istio_api::collections::{self, Collection};
use istio_api::mcp::v1alpha1::{Metadata as McpMetadata, Resource};
use prost_types::{Any, Timestamp};
use serde_json::Value;
use xxhash_rust::xxh3::Xxh3;

use crate::field::{Field, FieldError};
use crate::key::Key;
use crate::metadata::{DEFAULT_NAMESPACE, Metadata};
use crate::native::{self, Native};

/// 0001-01-01T00:00:00Z: "not known", as 1.1 sends it.
const NO_TIME: Timestamp = Timestamp {
    seconds: -62_135_596_800,
    nanos: 0,
};

/// An object that is distributed as it is.
#[derive(Debug, Clone)]
pub struct Config {
    /// Its collection.
    pub collection: &'static Collection,
    /// Ready to be sent.
    pub resource: Arc<Resource>,
}

impl PartialEq for Config {
    fn eq(&self, other: &Self) -> bool {
        self.collection.name == other.collection.name && self.version() == other.version()
    }
}

impl Config {
    /// Makes the resource. Its version is a hash of everything else in it, so that a restarted
    /// source and a second replica give the same version to the same content.
    pub fn new(collection: &'static Collection, metadata: McpMetadata, body: Vec<u8>) -> Self {
        let mut metadata = metadata;
        metadata.create_time.get_or_insert(NO_TIME);
        metadata.version = content_version(&metadata, &body);
        let body = Any {
            type_url: collection.type_url(),
            value: body,
        };
        let resource = Resource {
            metadata: Some(metadata),
            body: Some(body),
        };
        Self {
            collection,
            resource: Arc::new(resource),
        }
    }

    /// The resource's version.
    pub fn version(&self) -> &str {
        self.resource
            .metadata
            .as_ref()
            .map_or("", |metadata| &metadata.version)
    }
}

fn content_version(metadata: &McpMetadata, body: &[u8]) -> String {
    let mut hash = Xxh3::new();
    let mut part = |bytes: &[u8]| {
        hash.update(&bytes.len().to_le_bytes());
        hash.update(bytes);
    };
    for map in [&metadata.labels, &metadata.annotations] {
        part(&map.len().to_le_bytes());
        for (name, value) in map {
            part(name.as_bytes());
            part(value.as_bytes());
        }
    }
    if let Some(time) = metadata.create_time {
        part(&time.seconds.to_le_bytes());
        part(&time.nanos.to_le_bytes());
    }
    part(body);
    format!("f-{:016x}", hash.digest())
}

/// An object that is of use.
#[derive(Debug, Clone, PartialEq)]
pub enum Item {
    /// Istio configuration.
    Config(Config),
    /// A Kubernetes object that ServiceEntries are made from.
    Native(Native),
}

/// What a document (or an element of a list) holds.
#[derive(Debug)]
pub enum Found {
    /// An object of a kind that is read. `item` has the errors if it cannot be used.
    Object {
        key: Key,
        item: Result<Item, Vec<FieldError>>,
        warnings: Vec<FieldError>,
    },
    /// An object of another kind: `apiVersion` and `kind`.
    Other(String),
    /// No object, or one of unknown identity. `object` is what is known of it.
    Nothing { object: String, error: FieldError },
}

/// Reads a document; lists are taken apart. The second part is the path of the object in the
/// document, empty unless it is in a list.
pub fn read(document: &Value) -> Vec<(String, Found)> {
    let mut found = Vec::new();
    collect(document, String::new(), &mut found);
    found
}

fn collect(value: &Value, path: String, found: &mut Vec<(String, Found)>) {
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
    } else if let Some((group, kind, namespaced)) = native::kind(group, kind) {
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
        (_, None | Some("")) => Err(kind.error(format!("there is no kind, {wanted}"))),
        _ => Err(version.error(format!("there is no apiVersion, {wanted}"))),
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

fn read_config(collection: &'static Collection, value: &Value, root: &Field<'_>) -> Found {
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
            let message = format!("unknown field, an object has {}", known.join(", "));
            warnings.push(FieldError {
                path: name.clone(),
                message,
            });
        }
    }
    let item = spec::encode(collection, value.get("spec")).map(|(body, unknown)| {
        warnings.extend(unknown);
        let metadata = McpMetadata {
            name: key.full_name(),
            create_time: metadata.created,
            version: String::new(),
            labels: metadata.labels,
            annotations: metadata.annotations,
        };
        Item::Config(Config::new(collection, metadata, body))
    });
    Found::Object {
        key,
        item,
        warnings,
    }
}

fn read_native(
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    value: &Value,
    root: &Field<'_>,
) -> Found {
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
    let item = native::read(kind, &metadata, value)
        .map(Item::Native)
        .map_err(|error| vec![error]);
    Found::Object {
        key,
        item,
        warnings: Vec::new(),
    }
}

fn unusable(
    group: &'static str,
    kind: &'static str,
    namespaced: bool,
    value: &Value,
    error: FieldError,
) -> Found {
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

#[cfg(test)]
mod tests;
