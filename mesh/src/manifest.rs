//! Kubernetes objects as text and as values: reading files, naming objects.

use std::fmt;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use serde::Deserialize as _;
use serde_json::Value;

/// Names one object. The version is left out: it is the same object in each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// API group, empty for the core group.
    pub group: String,
    /// Kind, as written.
    pub kind: String,
    /// Empty for cluster-wide kinds.
    pub namespace: String,
    /// Object name.
    pub name: String,
}

/// Kinds without a namespace that may occur in manifests for a mesh.
const CLUSTER_WIDE: [&str; 10] = [
    "APIService",
    "ClusterRbacConfig",
    "ClusterRole",
    "ClusterRoleBinding",
    "CustomResourceDefinition",
    "GatewayClass",
    "MeshPolicy",
    "Namespace",
    "Node",
    "PersistentVolume",
];

impl Key {
    /// A key of the core group.
    #[must_use]
    pub fn core(kind: &str, namespace: &str, name: &str) -> Self {
        Self {
            group: String::new(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        }
    }

    /// Reads the key of `object`; an absent namespace becomes `default`.
    ///
    /// # Errors
    /// When `apiVersion`, `kind` or `metadata.name` is missing or not a text.
    pub fn of(object: &Value) -> Result<Self> {
        let text = |path: &str| object.pointer(path).and_then(Value::as_str);
        let version = text("/apiVersion").context("apiVersion is missing")?;
        let kind = text("/kind").context("kind is missing")?;
        let name =
            text("/metadata/name").with_context(|| format!("{kind}: metadata.name is missing"))?;
        let group = version.split_once('/').map_or("", |(group, _)| group);
        let namespace = if CLUSTER_WIDE.contains(&kind) {
            ""
        } else {
            text("/metadata/namespace").unwrap_or("default")
        };
        Ok(Self {
            group: group.to_owned(),
            kind: kind.to_owned(),
            namespace: namespace.to_owned(),
            name: name.to_owned(),
        })
    }

    /// File name for the object: lower-case kind, group, namespace, name.
    #[must_use]
    pub fn file_name(&self) -> String {
        let kind = self.kind.to_lowercase();
        let group = if self.group.is_empty() {
            String::new()
        } else {
            format!(".{}", self.group)
        };
        let namespace = if self.namespace.is_empty() {
            String::new()
        } else {
            format!("{}_", self.namespace)
        };
        format!("{kind}{group}_{namespace}{}.yaml", self.name)
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.namespace.is_empty() {
            write!(f, "{} {}", self.kind, self.name)
        } else {
            write!(f, "{} {}/{}", self.kind, self.namespace, self.name)
        }
    }
}

/// A text with manifests and where it came from.
#[derive(Clone, Debug, serde::Serialize, serde::Deserialize)]
pub struct Source {
    /// File name for messages.
    pub origin: String,
    /// YAML, possibly several documents.
    pub text: String,
}

/// Reads the YAML files below each path: a file itself, a directory recursively and in order of
/// name. `-` is the standard input.
///
/// # Errors
/// When a path does not exist or cannot be read, or a directory holds no YAML.
pub fn read_paths(paths: &[PathBuf]) -> Result<Vec<Source>> {
    let mut sources = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            let text = std::io::read_to_string(std::io::stdin()).context("read standard input")?;
            sources.push(Source {
                origin: "standard input".to_owned(),
                text,
            });
            continue;
        }
        let before = sources.len();
        read_path(path, &mut sources)?;
        if sources.len() == before {
            bail!("{} holds no .yaml, .yml or .json file", path.display());
        }
    }
    Ok(sources)
}

fn read_path(path: &Path, sources: &mut Vec<Source>) -> Result<()> {
    let data = std::fs::metadata(path).with_context(|| format!("read {}", path.display()))?;
    if data.is_dir() {
        let mut entries = std::fs::read_dir(path)
            .and_then(Iterator::collect::<std::io::Result<Vec<_>>>)
            .with_context(|| format!("read {}", path.display()))?;
        entries.sort_by_key(std::fs::DirEntry::file_name);
        for entry in entries {
            let child = entry.path();
            let yaml = child
                .extension()
                .is_some_and(|extension| ["yaml", "yml", "json"].iter().any(|e| extension == *e));
            if child.is_dir() || yaml {
                read_path(&child, sources)?;
            }
        }
        return Ok(());
    }
    let text = std::fs::read_to_string(path).with_context(|| format!("read {}", path.display()))?;
    sources.push(Source {
        origin: path.display().to_string(),
        text,
    });
    Ok(())
}

/// The objects of a text: every document, lists taken apart, empty documents skipped.
///
/// # Errors
/// When a document is not YAML or not a named Kubernetes object; the text names the file and
/// the document.
pub fn parse(source: &Source) -> Result<Vec<(Key, Value)>> {
    let mut objects = Vec::new();
    for (index, document) in serde_yaml::Deserializer::from_str(&source.text).enumerate() {
        let place = || format!("{}, document {}", source.origin, index + 1);
        let value = Value::deserialize(document).with_context(place)?;
        collect(value, &mut objects).with_context(place)?;
    }
    Ok(objects)
}

fn collect(mut value: Value, objects: &mut Vec<(Key, Value)>) -> Result<()> {
    if value.is_null() {
        return Ok(());
    }
    let is_list = value
        .get("kind")
        .and_then(Value::as_str)
        .is_some_and(|kind| kind.ends_with("List"));
    if is_list && let Some(Value::Array(items)) = value.get_mut("items").map(Value::take) {
        return items
            .into_iter()
            .try_for_each(|item| collect(item, objects));
    }
    let key = Key::of(&value)?;
    if !key.namespace.is_empty()
        && let Some(metadata) = value.get_mut("metadata").and_then(Value::as_object_mut)
    {
        metadata.insert("namespace".to_owned(), Value::String(key.namespace.clone()));
    }
    objects.push((key, value));
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(text: &str) -> Source {
        Source {
            origin: "x.yaml".to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn documents_and_lists_are_taken_apart() {
        let objects = parse(&source(
            "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n---\n---\n\
             apiVersion: v1\nkind: List\nitems:\n\
             - {apiVersion: apps/v1, kind: Deployment, metadata: {name: web}}\n\
             - {apiVersion: v1, kind: Service, metadata: {name: web, namespace: shop}}\n",
        ))
        .unwrap();
        let names: Vec<String> = objects.iter().map(|(key, _)| key.to_string()).collect();
        assert_eq!(
            names,
            [
                "Namespace shop",
                "Deployment default/web",
                "Service shop/web"
            ]
        );
        assert_eq!(
            objects[1].1.pointer("/metadata/namespace").unwrap(),
            "default"
        );
        assert_eq!(objects[1].0.file_name(), "deployment.apps_default_web.yaml");
    }

    #[test]
    fn errors_name_the_file_and_the_document() {
        let error = parse(&source(
            "apiVersion: v1\nkind: Pod\nmetadata: {name: a}\n---\nkind: Pod\n",
        ));
        assert_eq!(
            format!("{:#}", error.unwrap_err()),
            "x.yaml, document 2: apiVersion is missing"
        );
        let error = parse(&source("a: [")).unwrap_err();
        assert!(format!("{error:#}").starts_with("x.yaml, document 1: "));
    }
}
