//! JSON to bytes, straight from the descriptors: no typed or dynamic message in between,
//! so the order of the bytes is ours to choose.

mod known;

use std::collections::BTreeMap;
use std::fmt::Write as _;

use prost_reflect::{FieldDescriptor, Kind, MessageDescriptor};
use serde_json::{Map, Value};

use super::scalar::{self, quote, want};
use super::wire::Wire;
use super::{FieldIssue, MAX_DEPTH, Unknown};

/// More mistakes than this are not listed: no one reads them, and a list of millions of
/// wrong elements would cost memory.
const MAX_ISSUES: usize = 1_000;

/// State of one reading.
pub(super) struct Reader {
    mode: Unknown,
    path: String,
    errors: Vec<FieldIssue>,
    issues: Vec<FieldIssue>,
}

type Outcome = Result<(Vec<u8>, Vec<FieldIssue>), Vec<FieldIssue>>;

impl Reader {
    pub(super) fn new(mode: Unknown) -> Self {
        Self {
            mode,
            path: String::new(),
            errors: Vec::new(),
            issues: Vec::new(),
        }
    }

    pub(super) fn read(mut self, message: &MessageDescriptor, value: &Value) -> Outcome {
        let bytes = if value.is_null() && !known::takes_null(message) {
            Vec::new()
        } else {
            self.message(message, value, 0)
        };
        if self.errors.is_empty() {
            Ok((bytes, self.issues))
        } else {
            Err(self.errors)
        }
    }

    /// The encoding of a message that is `depth` messages below the outermost one.
    /// Whatever is wrong is reported and left out.
    pub(super) fn message(
        &mut self,
        message: &MessageDescriptor,
        value: &Value,
        depth: usize,
    ) -> Vec<u8> {
        if depth > MAX_DEPTH {
            self.too_deep();
            return Vec::new();
        }
        if let Some(special) = known::reader(message) {
            return special(self, message, value, depth);
        }
        match value {
            Value::Object(members) => self.members(message, members, &[], depth),
            _ => {
                self.error(want(&format!("object ({})", message.name()), value));
                Vec::new()
            }
        }
    }

    /// The fields of a message, in the order of their numbers. Members in `skip` are not fields.
    pub(super) fn members(
        &mut self,
        message: &MessageDescriptor,
        members: &Map<String, Value>,
        skip: &[&str],
        depth: usize,
    ) -> Vec<u8> {
        let mut given: BTreeMap<u32, (FieldDescriptor, &str, &Value)> = BTreeMap::new();
        for (name, value) in members {
            if skip.contains(&name.as_str()) {
                continue;
            }
            let by_json_name = message.get_field_by_json_name(name);
            let is_json_name = by_json_name.is_some();
            let Some(field) = by_json_name.or_else(|| message.get_field_by_name(name)) else {
                self.at_member(name, |reader| reader.unknown(name, message));
                continue;
            };
            if value.is_null() && !takes_null(&field) {
                continue;
            }
            // Given under both names, the JSON name wins.
            if is_json_name || !given.contains_key(&field.number()) {
                given.insert(field.number(), (field, name, value));
            }
        }
        let losers = one_of_losers(message, &given);
        let mut out = Vec::new();
        for (number, (field, name, value)) in &given {
            let start = out.len();
            self.at_member(name, |reader| reader.field(field, value, depth, &mut out));
            if losers.contains(number) {
                out.truncate(start);
            }
        }
        out
    }

    fn field(&mut self, field: &FieldDescriptor, value: &Value, depth: usize, out: &mut Vec<u8>) {
        if field.is_map() {
            self.map(field, value, depth, out);
        } else if field.is_list() {
            self.list(field, value, depth, out);
        } else if let Some(wire) = self.single(&field.kind(), value, depth)
            && (field.supports_presence() || !wire.is_default())
        {
            wire.field(field.number(), out);
        }
    }

    fn list(&mut self, field: &FieldDescriptor, value: &Value, depth: usize, out: &mut Vec<u8>) {
        let Value::Array(elements) = value else {
            return self.error(want("array", value));
        };
        let kind = field.kind();
        let mut packed = Vec::new();
        for (index, element) in elements.iter().enumerate() {
            let wire = self.at(format_args!("[{index}]"), |reader| {
                reader.element(&kind, element, depth)
            });
            match wire {
                Some(wire) if field.is_packed() => wire.bare(&mut packed),
                Some(wire) => wire.field(field.number(), out),
                None => {}
            }
        }
        if !packed.is_empty() {
            Wire::Bytes(packed).field(field.number(), out);
        }
    }

    fn map(&mut self, field: &FieldDescriptor, value: &Value, depth: usize, out: &mut Vec<u8>) {
        let Value::Object(members) = value else {
            return self.error(want("object", value));
        };
        let Kind::Message(entry) = field.kind() else {
            return;
        };
        // Entries are messages too.
        if depth >= MAX_DEPTH && !members.is_empty() {
            return self.too_deep();
        }
        let (key_kind, value_kind) = (
            entry.map_entry_key_field().kind(),
            entry.map_entry_value_field().kind(),
        );
        let mut entries = BTreeMap::new();
        for (name, value) in members {
            self.at(format_args!("[{name}]"), |reader| {
                match scalar::key(&key_kind, name) {
                    Ok(key) => {
                        if let Some(wire) = reader.element(&value_kind, value, depth + 1) {
                            entries.insert(key, wire);
                        }
                    }
                    Err(message) => reader.error(message),
                }
            });
        }
        for (key, value) in entries {
            let mut encoded = Vec::new();
            let key = scalar::encode_key(&key_kind, &key);
            if !key.is_default() {
                key.field(1, &mut encoded);
            }
            // An empty message is left out here too: prost does so, and it reads back the same.
            if !value.is_default() && value != Wire::Message(Vec::new()) {
                value.field(2, &mut encoded);
            }
            Wire::Message(encoded).field(field.number(), out);
        }
    }

    /// An element of a list or map. `null` there stands for the empty value.
    fn element(&mut self, kind: &Kind, value: &Value, depth: usize) -> Option<Wire> {
        if value.is_null() && !kind_takes_null(kind) {
            self.issue("null is read as an empty value".to_owned());
            return Some(scalar::zero(kind));
        }
        self.single(kind, value, depth)
    }

    fn single(&mut self, kind: &Kind, value: &Value, depth: usize) -> Option<Wire> {
        if let Kind::Message(message) = kind {
            return Some(Wire::Message(self.message(message, value, depth + 1)));
        }
        match scalar::read(kind, value) {
            Ok(wire) => Some(wire),
            Err(message) => {
                self.error(message);
                None
            }
        }
    }

    fn unknown(&mut self, name: &str, message: &MessageDescriptor) {
        let text = format!("unknown field {} in {}", quote(name), message.full_name());
        match self.mode {
            Unknown::Refuse => self.error(text),
            Unknown::Prune => self.issue(text),
        }
    }

    pub(super) fn too_deep(&mut self) {
        self.error(format!("want at most {MAX_DEPTH} nested messages"));
    }

    pub(super) fn error(&mut self, message: String) {
        if self.errors.len() < MAX_ISSUES {
            self.errors.push(FieldIssue {
                path: self.path.clone(),
                message,
            });
        }
    }

    fn issue(&mut self, message: String) {
        if self.issues.len() < MAX_ISSUES {
            self.issues.push(FieldIssue {
                path: self.path.clone(),
                message,
            });
        }
    }

    /// Runs `act` with the path extended by a member.
    pub(super) fn at_member<R>(&mut self, name: &str, act: impl FnOnce(&mut Self) -> R) -> R {
        let dot = if self.path.is_empty() { "" } else { "." };
        self.at(format_args!("{dot}{name}"), act)
    }

    fn at<R>(&mut self, segment: std::fmt::Arguments<'_>, act: impl FnOnce(&mut Self) -> R) -> R {
        let length = self.path.len();
        // Writing to a String cannot fail.
        let _ = self.path.write_fmt(segment);
        let result = act(self);
        self.path.truncate(length);
        result
    }
}

/// Of several members of one `oneof`, all but the one that is declared last.
fn one_of_losers(
    message: &MessageDescriptor,
    given: &BTreeMap<u32, (FieldDescriptor, &str, &Value)>,
) -> Vec<u32> {
    let mut losers = Vec::new();
    for one_of in message.oneofs() {
        let mut set: Vec<_> = one_of
            .fields()
            .map(|field| field.number())
            .filter(|number| given.contains_key(number))
            .collect();
        set.pop();
        losers.extend(set);
    }
    losers
}

fn takes_null(field: &FieldDescriptor) -> bool {
    !field.is_list() && !field.is_map() && kind_takes_null(&field.kind())
}

fn kind_takes_null(kind: &Kind) -> bool {
    match kind {
        Kind::Message(message) => known::takes_null(message),
        Kind::Enum(kind) => kind.full_name() == "google.protobuf.NullValue",
        _ => false,
    }
}
