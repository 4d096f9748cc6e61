//! Parses API paths.

use serde_json::Value;

/// A collection, all of it or a part.
#[derive(Debug, Clone)]
pub(super) struct Scope {
    /// Path of all objects of the kind.
    pub(super) collection: String,
    pub(super) namespace: Option<String>,
    /// From the field selector.
    pub(super) name: Option<String>,
    /// Types of Secrets that the field selector excludes.
    not_types: Vec<String>,
}

/// A single object, or the collection in which one is created.
#[derive(Debug)]
pub(super) struct Path {
    /// Path of all objects of the kind.
    pub(super) collection: String,
    pub(super) namespace: String,
    /// Empty when one is created.
    pub(super) name: String,
    pub(super) is_status: bool,
}

impl Path {
    /// `<root>/namespaces/<namespace>/<plural>[/<name>[/status]]`, or `<root>/<plural>/<name>` of
    /// an object without a namespace.
    pub(super) fn parse(path: &str) -> Option<Self> {
        let Some((root, rest)) = path.split_once("/namespaces/") else {
            return Self::without_namespace(path);
        };
        let mut parts = rest.split('/');
        let (namespace, plural) = (parts.next()?, parts.next()?);
        Some(Self {
            collection: format!("{root}/{plural}"),
            namespace: namespace.to_owned(),
            name: parts.next().unwrap_or_default().to_owned(),
            is_status: parts.next() == Some("status"),
        })
    }

    /// The root is `/api/v1` or `/apis/<group>/<version>`.
    fn without_namespace(path: &str) -> Option<Self> {
        let depth = if path.starts_with("/apis/") { 5 } else { 4 };
        let (collection, name) = path.rsplit_once('/')?;
        (path.split('/').count() == depth + 1).then(|| Self {
            collection: collection.to_owned(),
            namespace: String::new(),
            name: name.to_owned(),
            is_status: false,
        })
    }

    /// The key of a stored object.
    pub(super) fn full_name(&self) -> String {
        if self.namespace.is_empty() {
            return self.name.clone();
        }
        format!("{}/{}", self.namespace, self.name)
    }
}

impl Scope {
    /// The objects of a path that is listed or watched.
    pub(super) fn new(path: &str, fields: Option<&str>) -> Self {
        let one = Path::parse(path);
        let mut name = None;
        let mut not_types = Vec::new();
        for field in fields.into_iter().flat_map(|fields| fields.split(',')) {
            if let Some(wanted) = field.strip_prefix("metadata.name=") {
                name = Some(wanted.to_owned());
            } else if let Some(unwanted) = field.strip_prefix("type!=") {
                not_types.push(unwanted.to_owned());
            } else {
                panic!("no such field selector: {field}");
            }
        }
        Self {
            collection: one
                .as_ref()
                .map_or_else(|| path.to_owned(), |one| one.collection.clone()),
            namespace: one.map(|one| one.namespace),
            name,
            not_types,
        }
    }

    pub(super) fn has(&self, object: &Value) -> bool {
        let is = |field: &str, wanted: &Option<String>| {
            let wanted = wanted.as_deref();
            wanted.is_none_or(|wanted| object["metadata"][field].as_str() == Some(wanted))
        };
        let is_unwanted = |unwanted: &String| object["type"].as_str() == Some(unwanted);
        is("namespace", &self.namespace)
            && is("name", &self.name)
            && !self.not_types.iter().any(is_unwanted)
    }
}
