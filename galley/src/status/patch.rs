//! A status as JSON: pure.

use k8s_openapi::jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::statement::{ACCEPTED, Condition, DISTRIBUTED, Note, Since, Statement};

/// The complete `status`: ours, and the conditions of other writers unchanged.
pub(super) fn status(
    statement: &Statement,
    accepted: Option<Since>,
    distributed: Option<Since>,
    others: Option<&str>,
) -> Value {
    let mut conditions: Vec<Value> = others
        .and_then(|text| serde_json::from_str(text).ok())
        .unwrap_or_default();
    let own = [
        (ACCEPTED, &statement.accepted, accepted),
        (DISTRIBUTED, &statement.distributed, distributed),
    ];
    for (name, said, since) in own {
        if let (Some(said), Some((_, time))) = (said, since) {
            conditions.push(condition(name, said, time));
        }
    }
    let mut status = Map::new();
    status.insert("conditions".to_owned(), conditions.into());
    if let Some(generation) = statement.generation {
        status.insert("observedGeneration".to_owned(), generation.into());
    }
    let notes: Vec<Value> = statement.notes.iter().map(note).collect();
    if !notes.is_empty() {
        status.insert("validationMessages".to_owned(), notes.into());
    }
    status.into()
}

/// A merge patch for exactly the state that was looked at: any other is a conflict.
pub(super) fn merge(mut status: Value, resource_version: &str) -> Value {
    if let Some(members) = status.as_object_mut() {
        // Removes what an earlier status said.
        for name in ["observedGeneration", "validationMessages"] {
            members.entry(name).or_insert(Value::Null);
        }
    }
    json!({"metadata": {"resourceVersion": resource_version}, "status": status})
}

fn condition(name: &str, said: &Condition, since: Timestamp) -> Value {
    let mut condition = json!({
        "type": name,
        "status": said.state.name(),
        "lastTransitionTime": since.to_string(),
        "reason": said.reason,
        "message": said.message,
    });
    if let (Some(generation), Some(members)) = (said.generation, condition.as_object_mut()) {
        members.insert("observedGeneration".to_owned(), generation.into());
    }
    condition
}

fn note(note: &Note) -> Value {
    json!({
        "type": {"code": note.code, "name": note.name},
        "level": note.level,
        "documentationUrl": note.url,
    })
}
