//! The status of an object as the API server shows it: pure.

use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::statement::{ACCEPTED, Condition, DISTRIBUTED, Digest, Note, Since, State, Statement};

/// The parts of a status that are kept, small: there is one per object.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Shown {
    /// Hash of the parts that galley writes.
    pub(super) digest: Digest,
    pub(super) accepted: Option<Since>,
    pub(super) distributed: Option<Since>,
    /// Kept unchanged while no pilot reports.
    pub(super) condition: Option<Box<Condition>>,
    /// Conditions of other writers, as JSON; the list is replaced as a whole.
    pub(super) others: Option<Box<str>>,
}

impl Shown {
    /// Reads `status` of an object.
    pub fn read(object: &Value) -> Self {
        Self::of(object.get("status").unwrap_or(&Value::Null))
    }

    /// Reads a status. Parts of an unexpected form are treated as absent.
    pub fn of(status: &Value) -> Self {
        let list = |member: &str| {
            let list = status.get(member).and_then(Value::as_array);
            list.into_iter().flatten()
        };
        let mut shown = Self::default();
        let mut accepted = None;
        let mut others = Vec::new();
        for condition in list("conditions") {
            let since = || {
                let state = State::parse(text(condition, "status"))?;
                let time = text(condition, "lastTransitionTime").parse::<Timestamp>();
                Some((state, time.ok()?))
            };
            match text(condition, "type") {
                ACCEPTED => {
                    shown.accepted = since();
                    accepted = shown.accepted.and_then(|_| read_condition(condition));
                }
                DISTRIBUTED => {
                    shown.distributed = since();
                    let read = shown.distributed.and_then(|_| read_condition(condition));
                    shown.condition = read.map(Box::new);
                }
                _ => others.push(condition),
            }
        }
        if !others.is_empty() {
            // A list of JSON values can always be serialized.
            shown.others = serde_json::to_string(&others).ok().map(Into::into);
        }
        let note = |message: &Value| {
            let part = |pointer: &str| {
                let value = message.pointer(pointer).and_then(Value::as_str);
                value.unwrap_or_default().to_owned()
            };
            Note {
                code: part("/type/code").into(),
                name: part("/type/name").into(),
                level: part("/level").into(),
                url: part("/documentationUrl"),
            }
        };
        let statement = Statement {
            generation: status.get("observedGeneration").and_then(generation),
            accepted,
            distributed: shown.condition.as_deref().cloned(),
            notes: list("validationMessages").map(note).collect(),
        };
        shown.digest = statement.digest();
        shown
    }
}

fn text<'a>(value: &'a Value, member: &str) -> &'a str {
    let value = value.get(member).and_then(Value::as_str);
    value.unwrap_or_default()
}

/// A number, or a quoted one, as Istio writes it.
fn generation(value: &Value) -> Option<i64> {
    value.as_i64().or_else(|| value.as_str()?.parse().ok())
}

fn read_condition(condition: &Value) -> Option<Condition> {
    Some(Condition {
        state: State::parse(text(condition, "status"))?,
        reason: text(condition, "reason").to_owned().into(),
        message: text(condition, "message").to_owned(),
        generation: condition.get("observedGeneration").and_then(generation),
    })
}
