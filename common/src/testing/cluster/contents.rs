//! The objects of the server, and their history.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Value, json};

use super::path::Scope;

/// Version, type of an event, and its object.
type Logged = (u64, &'static str, Value);

/// The objects at one path.
#[derive(Debug, Default)]
pub(super) struct Collection {
    /// By `namespace/name`.
    pub(super) objects: BTreeMap<String, Value>,
    log: Vec<Logged>,
    /// Watches from before this version are answered with 410.
    pub(super) forgotten: u64,
}

#[derive(Debug, Default)]
pub(super) struct Contents {
    version: u64,
    pub(super) collections: BTreeMap<String, Collection>,
    pub(super) forbidden: BTreeSet<String>,
    pub(super) forget_next_page: bool,
    /// A change ends the watches that are open now.
    pub(super) generation: u64,
    /// Method, and `path?query`.
    pub(super) requests: Vec<(String, String)>,
    /// Statuses written, by `namespace/name`, whatever the result.
    pub(super) statuses: Vec<String>,
    /// Response to the next write of a status.
    pub(super) refuse_status: Option<u16>,
    /// Results of token reviews.
    pub(super) tokens: BTreeMap<String, Value>,
    /// Specs of token reviews so far.
    pub(super) reviews: Vec<Value>,
    /// User, verb, resource and namespace that access reviews allow.
    pub(super) rights: BTreeSet<[String; 4]>,
    /// Specs of access reviews so far.
    pub(super) access_reviews: Vec<Value>,
    /// Number of open watches, by path.
    pub(super) watches: BTreeMap<String, usize>,
}

/// Changes that are not sent to watches.
#[derive(Debug)]
pub struct Changes<'a> {
    contents: &'a mut Contents,
    path: &'a str,
}

impl Changes<'_> {
    /// Stores an object, as [`Cluster::apply`](super::Cluster::apply) does.
    pub fn apply(&mut self, object: Value) {
        self.contents.apply(self.path, object);
    }

    /// Deletes an object.
    pub fn delete(&mut self, name: &str) {
        self.contents.delete(self.path, name);
    }
}

impl Contents {
    pub(super) fn apply(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let name = full_name(&object);
        let collection = self.collections.entry(path.to_owned()).or_default();
        let former = collection.objects.insert(name, object.clone());
        let event = if former.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        collection.log.push((self.version, event, object));
    }

    pub(super) fn delete(&mut self, path: &str, name: &str) {
        self.version += 1;
        let collection = self.collections.get_mut(path).unwrap();
        let mut object = collection.objects.remove(name).unwrap();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        collection.log.push((self.version, "DELETED", object));
    }

    pub(super) fn object(&self, path: &str, name: &str) -> Value {
        let collection = self.collections.get(path);
        let object = collection.and_then(|collection| collection.objects.get(name));
        object.cloned().unwrap_or_default()
    }

    pub(super) fn change_and_forget(&mut self, path: &str, change: impl FnOnce(&mut Changes<'_>)) {
        change(&mut Changes {
            contents: self,
            path,
        });
        self.version += 1;
        let collection = self.collections.entry(path.to_owned()).or_default();
        collection.forgotten = self.version;
        collection.log.clear();
    }

    pub(super) fn bookmark(&mut self, path: &str) -> u64 {
        self.version += 1000;
        let version = self.version;
        let object = json!({
            "apiVersion": "x/v1", "kind": "X",
            "metadata": {"resourceVersion": version.to_string()},
        });
        let collection = self.collections.entry(path.to_owned()).or_default();
        collection.log.push((version, "BOOKMARK", object));
        version
    }

    /// A page of a list; `Err` has the status of a rejection.
    pub(super) fn list(
        &mut self,
        scope: &Scope,
        limit: usize,
        token: Option<&str>,
    ) -> Result<Value, Value> {
        let offset = match token {
            Some(_) if std::mem::take(&mut self.forget_next_page) => {
                return Err(status(410, "the token is too old"));
            }
            Some(token) => token.parse().unwrap(),
            None => 0,
        };
        let version = self.version.to_string();
        let Some(collection) = self.collections.get(&scope.collection) else {
            return Ok(json!({"metadata": {"resourceVersion": version}, "items": null}));
        };
        let objects: Vec<_> = collection.objects.values().collect();
        let objects: Vec<_> = objects.into_iter().filter(|one| scope.has(one)).collect();
        let all = objects.len();
        let items: Vec<_> = objects.into_iter().skip(offset).take(limit).collect();
        let end = offset + items.len();
        let next = (end < all).then(|| end.to_string());
        Ok(json!({
            "metadata": {"resourceVersion": version, "continue": next.unwrap_or_default()},
            "items": items,
        }))
    }

    /// The next event of a watch after a version, and the version after it.
    pub(super) fn next(&self, scope: &Scope, after: u64) -> Option<(Option<u64>, Value)> {
        let collection = self.collections.get(&scope.collection)?;
        if after < collection.forgotten {
            let status = status(410, "too old resource version");
            return Some((None, json!({"type": "ERROR", "object": status})));
        }
        let mut log = collection.log.iter();
        let (version, event, object) = log.find(|(version, event, object)| {
            *version > after && (*event == "BOOKMARK" || scope.has(object))
        })?;
        Some((Some(*version), json!({"type": event, "object": object})))
    }
}

pub(super) fn full_name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

pub(super) fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "Invalid",
    };
    json!({
        "kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason,
    })
}
