//! Constraints of the schemas beyond types: a table by message and field.
//!
//! They are what an API server can check by itself. [`crate::validation`] checks the same, and
//! more, in documents from other sources; comments name the ids of the rules.

use serde_json::{Map, Value, json};

mod fields;
mod messages;

use messages::MESSAGES;
pub(super) use messages::SPEC_REQUIRED;

/// One constraint.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Limit {
    /// The member is required.
    Required,
    /// The API server also accepts the member under its name in the `.proto` file.
    ProtoSpelling,
    /// A duration that may be zero; others are at least a millisecond (CS-04).
    ZeroDuration,
    /// The constraints of the message itself do not apply here.
    BareMessage,
    /// Length of a text, in characters.
    Length(u32, u32),
    /// Length of a text that has no upper bound, in characters.
    MinLength(u32),
    /// Number of elements in a list.
    Items(u32, u32),
    /// Number of members in a map.
    Properties(u32, u32),
    /// A number, both ends included.
    Range(i64, i64),
    /// A number, lower end included.
    Minimum(i64),
    /// RE2 expression that a text must match.
    Pattern(&'static str),
    /// A list that is a map, keyed by this member of its elements.
    Key(&'static str),
    /// Constraints on each element of a list or each value of a map.
    Elements(&'static [Self]),
    /// CEL expression on `self`, and the message if it is false.
    Rule(&'static str, &'static str),
}

/// CS-04.
pub(super) const LEAST_DURATION: Limit = Limit::Rule(
    "duration(self) >= duration('1ms')",
    "want a duration of at least 1ms, e.g. 5s",
);

/// Constraints on a field, by the full name of its message and its JSON name.
pub(super) fn of_field(message: &str, field: &str) -> &'static [Limit] {
    let row = fields::rows().find(|(of, name, _)| *name == field && is_name(message, of));
    row.map_or(&[], |(_, _, limits)| limits)
}

/// Constraints on every object of a message.
pub(super) fn of_message(message: &str) -> &'static [Limit] {
    let row = MESSAGES.iter().find(|(of, _)| is_name(message, of));
    row.map_or(&[], |(_, limits)| limits)
}

/// Names in the table leave out `istio.`.
fn is_name(full: &str, short: &str) -> bool {
    full.strip_prefix("istio.") == Some(short)
}

impl Limit {
    /// Adds the constraint to a schema.
    pub(super) fn add(&self, schema: &mut Map<String, Value>) {
        let mut set = |name: &str, value: Value| {
            schema.insert(name.to_owned(), value);
        };
        match *self {
            Self::Required
            | Self::ProtoSpelling
            | Self::ZeroDuration
            | Self::BareMessage
            | Self::Elements(_) => {}
            Self::Length(least, most) => {
                if least > 0 {
                    set("minLength", json!(least));
                }
                set("maxLength", json!(most));
            }
            Self::MinLength(least) => set("minLength", json!(least)),
            Self::Items(least, most) => {
                if least > 0 {
                    set("minItems", json!(least));
                }
                set("maxItems", json!(most));
            }
            Self::Properties(least, most) => {
                if least > 0 {
                    set("minProperties", json!(least));
                }
                if most < u32::MAX {
                    set("maxProperties", json!(most));
                }
            }
            Self::Range(least, most) => {
                set("minimum", json!(least));
                set("maximum", json!(most));
            }
            Self::Minimum(least) => set("minimum", json!(least)),
            Self::Pattern(pattern) => set("pattern", json!(pattern)),
            Self::Key(name) => {
                set("x-kubernetes-list-type", json!("map"));
                set("x-kubernetes-list-map-keys", json!([name]));
            }
            Self::Rule(rule, message) => {
                let rules = schema
                    .entry("x-kubernetes-validations")
                    .or_insert_with(|| json!([]));
                if let Some(rules) = rules.as_array_mut() {
                    rules.push(json!({"rule": rule, "message": message}));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use istio_api::descriptor;

    #[test]
    fn every_row_is_of_a_field_that_exists() {
        for (message, field, limits) in fields::rows() {
            let found = descriptor::message(&format!("istio.{message}"));
            let found = found.and_then(|message| message.get_field_by_json_name(field));
            assert!(found.is_some(), "{message}.{field}");
            assert!(!limits.is_empty(), "{message}.{field}");
        }
        for (message, limits) in MESSAGES {
            let found = descriptor::message(&format!("istio.{message}"));
            assert!(found.is_some() && !limits.is_empty(), "{message}");
        }
    }

    #[test]
    fn no_row_hides_another() {
        let names: std::collections::BTreeSet<_> = fields::rows()
            .map(|(message, field, _)| (message, field))
            .collect();
        assert_eq!(names.len(), fields::rows().count());
        let messages: std::collections::BTreeSet<_> =
            MESSAGES.iter().map(|(message, _)| message).collect();
        assert_eq!(messages.len(), MESSAGES.len());
    }
}
