//! Requests about one namespaced object: get, create, replace, and patches of its status.

use axum::body::Bytes;
use axum::http::{Method, StatusCode};
use axum::response::{IntoResponse, Response};
use serde_json::{Value, json};

use super::Cluster;
use super::contents::{Contents, full_name, status};
use super::path::Path;
use super::serve::refusal;

fn refused(code: u16, message: &str) -> Response {
    refusal(StatusCode::from_u16(code).unwrap(), &status(code, message))
}

fn version(object: &Value) -> Option<&Value> {
    object.pointer("/metadata/resourceVersion")
}

impl Contents {
    pub(super) fn one(&mut self, method: &Method, path: &Path, body: &Bytes) -> Response {
        let collection = self.collections.get(&path.collection);
        let found = collection.and_then(|all| all.objects.get(&path.full_name()).cloned());
        if method == Method::GET {
            return match found {
                Some(object) => object.to_string().into_response(),
                None => refused(404, "not found"),
            };
        }
        let mut sent: Value = serde_json::from_slice(body).unwrap();
        if path.is_status {
            assert_eq!(method, Method::PATCH);
            return self.patch_status(path, found, &sent);
        }
        sent["metadata"]["namespace"] = path.namespace.clone().into();
        let name = full_name(&sent);
        let is_new = self.object(&path.collection, &name).is_null();
        match (method, &found) {
            (&Method::POST, None) if is_new => {}
            (&Method::PUT, Some(found)) if version(found) == version(&sent) => {}
            _ => return refused(409, "it is another one"),
        }
        self.apply(&path.collection, sent);
        let stored = self.collections[&path.collection].objects[&name].to_string();
        stored.into_response()
    }

    fn patch_status(&mut self, path: &Path, found: Option<Value>, sent: &Value) -> Response {
        self.statuses.push(path.full_name());
        if let Some(code) = self.refuse_status.take() {
            return refused(code, "not this one");
        }
        let Some(mut object) = found else {
            return refused(404, "not found");
        };
        if version(sent) != version(&object) {
            return refused(409, "it was changed");
        }
        let patch = json!({"status": sent["status"]});
        merge(&mut object, &patch);
        self.apply(&path.collection, object);
        let stored = &self.collections[&path.collection].objects[&path.full_name()];
        stored.to_string().into_response()
    }
}

/// Merge patch (RFC 7386).
fn merge(object: &mut Value, patch: &Value) {
    let Value::Object(members) = patch else {
        *object = patch.clone();
        return;
    };
    if !object.is_object() {
        *object = json!({});
    }
    for (name, value) in members {
        if value.is_null() {
            object.as_object_mut().unwrap().remove(name);
        } else {
            merge(&mut object[name], value);
        }
    }
}

impl Cluster {
    /// Changes the spec of an object and increments its generation.
    pub fn edit(&self, path: &str, name: &str, spec: Value) {
        self.change(|contents| {
            let mut object = contents.collections[path].objects[name].clone();
            let generation = object["metadata"]["generation"].as_i64().unwrap_or(1);
            object["metadata"]["generation"] = (generation + 1).into();
            object["spec"] = spec;
            contents.apply(path, object);
        });
    }

    /// Objects whose status was written so far, once per write.
    #[must_use]
    pub fn statuses(&self) -> Vec<String> {
        let mut statuses = self.shared.contents.lock().statuses.clone();
        statuses.sort();
        statuses
    }

    /// Rejects the next write of a status.
    pub fn refuse_status(&self, code: u16) {
        self.change(|contents| contents.refuse_status = Some(code));
    }
}
