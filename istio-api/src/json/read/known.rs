//! Well-known types whose JSON is not an object of their fields.

use prost_reflect::MessageDescriptor;
use serde_json::{Map, Value};

use super::Reader;
use crate::json::MAX_DEPTH;
use crate::json::scalar::{self, quote, want};
use crate::json::wire::Wire;
use crate::{any, descriptor, duration};

type Special = fn(&mut Reader, &MessageDescriptor, &Value, usize) -> Vec<u8>;

/// How to read a message that is not written as an object of its fields.
pub(super) fn reader(message: &MessageDescriptor) -> Option<Special> {
    Some(
        match message.full_name().strip_prefix("google.protobuf.")? {
            "Any" => any_message,
            "Duration" => duration_text,
            "Timestamp" => timestamp,
            "FieldMask" => field_mask,
            "Struct" => structure,
            "Value" => |reader, _, json, depth| value(reader, json, depth),
            "ListValue" => list,
            "BoolValue" | "StringValue" | "BytesValue" | "Int32Value" | "UInt32Value"
            | "Int64Value" | "UInt64Value" | "FloatValue" | "DoubleValue" => wrapper,
            _ => return None,
        },
    )
}

/// Whether `null` is a value of the message and not its absence.
pub(super) fn takes_null(message: &MessageDescriptor) -> bool {
    message.full_name() == "google.protobuf.Value"
}

fn wrapper(reader: &mut Reader, message: &MessageDescriptor, json: &Value, _: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if let Some(field) = message.get_field(1) {
        match scalar::read(&field.kind(), json) {
            Ok(wire) if !wire.is_default() => wire.field(1, &mut out),
            Ok(_) => {}
            Err(message) => reader.error(message),
        }
    }
    out
}

fn duration_text(reader: &mut Reader, _: &MessageDescriptor, json: &Value, _: usize) -> Vec<u8> {
    let Value::String(text) = json else {
        reader.error(want("duration such as \"1.5s\"", json));
        return Vec::new();
    };
    match duration::parse(text) {
        Ok(parsed) => seconds_and_nanos(parsed.seconds, parsed.nanos),
        Err(e) => {
            reader.error(format!("invalid duration {}: {e}", quote(text)));
            Vec::new()
        }
    }
}

fn timestamp(reader: &mut Reader, _: &MessageDescriptor, json: &Value, _: usize) -> Vec<u8> {
    // A bare date, which the parser would accept, is not an RFC 3339 time.
    let parsed = match json {
        Value::String(text) if text.len() > "2006-01-02".len() => {
            text.parse::<prost_types::Timestamp>().ok()
        }
        _ => None,
    };
    match parsed.filter(|time| (scalar::FIRST_SECOND..=scalar::LAST_SECOND).contains(&time.seconds))
    {
        Some(time) => seconds_and_nanos(time.seconds, time.nanos),
        None => {
            reader.error(want("time such as \"2006-01-02T15:04:05Z\"", json));
            Vec::new()
        }
    }
}

#[expect(clippy::cast_sign_loss, reason = "the wire format takes the bits")]
fn seconds_and_nanos(seconds: i64, nanos: i32) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, value) in [(1, seconds), (2, i64::from(nanos))] {
        if value != 0 {
            Wire::Varint(value as u64).field(number, &mut out);
        }
    }
    out
}

fn field_mask(reader: &mut Reader, _: &MessageDescriptor, json: &Value, _: usize) -> Vec<u8> {
    let mut out = Vec::new();
    match json {
        Value::String(text) => {
            for path in text.split(',').filter(|path| !path.is_empty()) {
                Wire::Bytes(snake_case(path).into_bytes()).field(1, &mut out);
            }
        }
        _ => reader.error(want("field names, separated by commas", json)),
    }
    out
}

fn snake_case(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    for c in path.chars() {
        if c.is_ascii_uppercase() {
            out.push('_');
        }
        out.push(c.to_ascii_lowercase());
    }
    out
}

fn structure(reader: &mut Reader, _: &MessageDescriptor, json: &Value, depth: usize) -> Vec<u8> {
    match json {
        Value::Object(members) => object(reader, members, depth),
        _ => {
            reader.error(want("object", json));
            Vec::new()
        }
    }
}

fn object(reader: &mut Reader, members: &Map<String, Value>, depth: usize) -> Vec<u8> {
    let mut names: Vec<_> = members.iter().collect();
    names.sort_unstable_by_key(|(name, _)| *name);
    let mut out = Vec::new();
    for (name, json) in names {
        let mut entry = Vec::new();
        if !name.is_empty() {
            Wire::Bytes(name.clone().into_bytes()).field(1, &mut entry);
        }
        // The entry is a message of its own, hence two levels.
        let encoded = reader.at_member(name, |reader| value(reader, json, depth + 2));
        Wire::Message(encoded).field(2, &mut entry);
        Wire::Message(entry).field(1, &mut out);
    }
    out
}

fn list(reader: &mut Reader, _: &MessageDescriptor, json: &Value, depth: usize) -> Vec<u8> {
    match json {
        Value::Array(elements) => array(reader, elements, depth),
        _ => {
            reader.error(want("array", json));
            Vec::new()
        }
    }
}

fn array(reader: &mut Reader, elements: &[Value], depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    for element in elements {
        Wire::Message(value(reader, element, depth + 1)).field(1, &mut out);
    }
    out
}

fn value(reader: &mut Reader, json: &Value, depth: usize) -> Vec<u8> {
    let mut out = Vec::new();
    if depth >= MAX_DEPTH {
        reader.too_deep();
        return out;
    }
    match json {
        Value::Null => Wire::Varint(0).field(1, &mut out),
        Value::Number(number) => {
            Wire::Fixed64(number.as_f64().unwrap_or_default().to_bits()).field(2, &mut out);
        }
        Value::String(text) => Wire::Bytes(text.clone().into_bytes()).field(3, &mut out),
        Value::Bool(flag) => Wire::Varint(u64::from(*flag)).field(4, &mut out),
        Value::Object(members) => {
            Wire::Message(object(reader, members, depth + 1)).field(5, &mut out)
        }
        Value::Array(elements) => {
            Wire::Message(array(reader, elements, depth + 1)).field(6, &mut out)
        }
    }
    out
}

fn any_message(reader: &mut Reader, _: &MessageDescriptor, json: &Value, depth: usize) -> Vec<u8> {
    let Value::Object(members) = json else {
        reader.error(want("object with \"@type\"", json));
        return Vec::new();
    };
    if members.is_empty() {
        return Vec::new();
    }
    let Some(Value::String(type_url)) = members.get("@type") else {
        reader.error("want member \"@type\" with the type URL of the message".to_owned());
        return Vec::new();
    };
    let name = any::message_name(type_url);
    let Some(message) = descriptor::message(name) else {
        reader.at_member("@type", |reader| {
            reader.error(format!("unknown message {}", quote(name)))
        });
        return Vec::new();
    };
    let encoded = if self::reader(&message).is_some() {
        let inner = members.get("value").unwrap_or(&Value::Null);
        reader.at_member("value", |reader| reader.message(&message, inner, depth + 1))
    } else if depth < MAX_DEPTH {
        reader.members(&message, members, &["@type"], depth + 1)
    } else {
        reader.too_deep();
        Vec::new()
    };
    let mut out = Vec::new();
    Wire::Bytes(format!("{}{name}", any::PREFIX).into_bytes()).field(1, &mut out);
    if !encoded.is_empty() {
        Wire::Bytes(encoded).field(2, &mut out);
    }
    out
}
