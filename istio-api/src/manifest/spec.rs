//! `spec` as the encoded message of its collection.

use std::borrow::Cow;

use crate::collections::Collection;
use crate::descriptor;
use crate::json::{self, FieldIssue, Unknown};
use prost_reflect::{Cardinality, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::field::FieldError;

/// Depth to which messages are searched for words.
const MAX_DEPTH: usize = 64;

/// Encodes a spec as files and the API server write it. Unknown fields are left out and returned.
///
/// # Errors
/// Everything else that does not fit.
pub fn encode(
    collection: &Collection,
    spec: Option<&Value>,
) -> Result<(Vec<u8>, Vec<FieldError>), Vec<FieldError>> {
    let spec = match spec {
        None | Some(Value::Null) => Cow::Owned(Value::Object(Map::new())),
        Some(spec @ Value::Object(_)) => Cow::Borrowed(spec),
        Some(_) => {
            let message = format!("want an object, the spec of a {}", collection.kind);
            return Err(vec![FieldError {
                path: "spec".to_owned(),
                message,
            }]);
        }
    };
    let spec = adapt(collection, spec);
    json::read_dynamic(collection.message, &spec, Unknown::Prune)
        .map(|(body, unknown)| (body, unknown.into_iter().map(in_spec).collect()))
        .map_err(|issues| issues.into_iter().map(in_spec).collect())
}

fn in_spec(issue: FieldIssue) -> FieldError {
    let separator = if issue.path.is_empty() || issue.path.starts_with('[') {
        ""
    } else {
        "."
    };
    FieldError {
        path: format!("spec{separator}{}", issue.path),
        message: issue.message,
    }
}

/// Keeps what the text form says and the plain JSON mapping would lose.
fn adapt<'a>(collection: &Collection, spec: Cow<'a, Value>) -> Cow<'a, Value> {
    let mut spec = spec;
    if collection.group == "authentication.istio.io" {
        present_mtls(&mut spec);
    }
    if collection.kind == "DestinationRule" && mentions_unspecified(&spec) {
        drop_unspecified(spec.to_mut());
    }
    if has_boolean_word(&spec)
        && let Some(message) = descriptor::message(collection.message)
    {
        boolean_words(spec.to_mut(), &message, 0);
    }
    spec
}

/// `- mtls:` without a value asks for mutual TLS with all defaults; null would mean "not asked".
fn present_mtls(spec: &mut Cow<'_, Value>) {
    let is_null = |peer: &Value| peer.get("mtls").is_some_and(Value::is_null);
    let peers = spec.get("peers").and_then(Value::as_array);
    if !peers.is_some_and(|peers| peers.iter().any(is_null)) {
        return;
    }
    let peers = spec.to_mut().get_mut("peers").and_then(Value::as_array_mut);
    for peer in peers.into_iter().flatten() {
        if let Some(mtls) = peer.get_mut("mtls").filter(|mtls| mtls.is_null()) {
            *mtls = Value::Object(Map::new());
        }
    }
}

fn is_unspecified(value: &Value) -> bool {
    value.as_str() == Some("UNSPECIFIED")
}

fn mentions_unspecified(value: &Value) -> bool {
    any_value(value, &|value| is_unspecified(value))
}

/// An explicit `simple: UNSPECIFIED` would be a present 0, which 1.1 peers read as round robin.
fn drop_unspecified(value: &mut Value) {
    match value {
        Value::Object(members) => {
            if members.get("simple").is_some_and(is_unspecified) {
                members.remove("simple");
            }
            members.values_mut().for_each(drop_unspecified);
        }
        Value::Array(values) => values.iter_mut().for_each(drop_unspecified),
        _ => {}
    }
}

fn any_value(value: &Value, test: &impl Fn(&Value) -> bool) -> bool {
    test(value)
        || match value {
            Value::Object(members) => members.values().any(|value| any_value(value, test)),
            Value::Array(values) => values.iter().any(|value| any_value(value, test)),
            _ => false,
        }
}

/// The words that YAML 1.1, and with it the usual tools, reads as booleans.
fn boolean_word(value: &Value) -> Option<bool> {
    match value.as_str()? {
        "y" | "Y" | "yes" | "Yes" | "YES" | "on" | "On" | "ON" => Some(true),
        "n" | "N" | "no" | "No" | "NO" | "off" | "Off" | "OFF" => Some(false),
        _ => None,
    }
}

fn has_boolean_word(value: &Value) -> bool {
    any_value(value, &|value| boolean_word(value).is_some())
}

/// Turns those words into booleans where the message has a boolean, and only there.
fn boolean_words(value: &mut Value, message: &MessageDescriptor, depth: usize) {
    let Value::Object(members) = value else {
        return;
    };
    if depth > MAX_DEPTH {
        return;
    }
    for field in message.fields() {
        let names = [field.json_name().to_owned(), field.name().to_owned()];
        for name in names {
            let Some(value) = members.get_mut(&name) else {
                continue;
            };
            let kind = match field.kind() {
                Kind::Message(entry) if field.is_map() => {
                    match entry.map_entry_value_field().kind() {
                        Kind::Message(message) => {
                            let values =
                                value.as_object_mut().into_iter().flat_map(Map::values_mut);
                            values.for_each(|value| boolean_words(value, &message, depth + 1));
                        }
                        Kind::Bool => {
                            let values =
                                value.as_object_mut().into_iter().flat_map(Map::values_mut);
                            values.for_each(to_boolean);
                        }
                        _ => {}
                    }
                    continue;
                }
                kind => kind,
            };
            let each: &mut dyn FnMut(&mut Value) = &mut |value| match &kind {
                Kind::Bool => to_boolean(value),
                Kind::Message(inner) if inner.full_name() == "google.protobuf.BoolValue" => {
                    to_boolean(value);
                }
                // The JSON of well-known types does not follow their fields.
                Kind::Message(inner) if inner.package_name() == "google.protobuf" => {}
                Kind::Message(inner) => boolean_words(value, inner, depth + 1),
                _ => {}
            };
            match value {
                Value::Array(values) if field.cardinality() == Cardinality::Repeated => {
                    values.iter_mut().for_each(each);
                }
                value => each(value),
            }
        }
    }
}

fn to_boolean(value: &mut Value) {
    if let Some(boolean) = boolean_word(value) {
        *value = Value::Bool(boolean);
    }
}
