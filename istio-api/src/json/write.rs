//! Bytes to JSON.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use prost::{Message, Name};
use prost_reflect::{
    DynamicMessage, FieldDescriptor, Kind, MapKey, MessageDescriptor, ReflectMessage as _,
    Value as Field,
};
use serde_json::{Map, Number, Value};

use super::MAX_DEPTH;
use super::scalar::{FIRST_SECOND, LAST_SECOND};
use crate::{any, descriptor, duration};

/// Error of writing a message as JSON.
#[derive(Debug, thiserror::Error)]
pub enum WriteError {
    /// There is no such message.
    #[error("unknown message {0:?}")]
    UnknownMessage(String),
    /// The bytes are not an encoding of the message.
    #[error("{message}: {source}")]
    Decode {
        /// Full name of the message.
        message: String,
        /// Error of the decoder.
        source: prost::DecodeError,
    },
    /// A value that JSON has no form for.
    #[error("{message}: {reason}")]
    Value {
        /// Full name of the message that the value is in.
        message: String,
        /// What is wrong with it.
        reason: &'static str,
    },
}

/// The JSON of an encoded message of the given full name. Fields with default values are left
/// out, names are in camelCase and maps in the order of their keys. An `Any` of a message that
/// is not known shows its bytes in base64 as `value`.
///
/// # Errors
/// If the message is not known, the bytes do not decode, or a value has no JSON form.
pub fn write(full_name: &str, bytes: &[u8]) -> Result<Value, WriteError> {
    let message = descriptor::message(full_name)
        .ok_or_else(|| WriteError::UnknownMessage(full_name.to_owned()))?;
    message_value(&decode(message, bytes)?, 0)
}

/// The JSON of a message. See [`write()`].
///
/// # Errors
/// As [`write()`].
pub fn write_message<T: Message + Name>(message: &T) -> Result<Value, WriteError> {
    write(&T::full_name(), &message.encode_to_vec())
}

fn decode(message: MessageDescriptor, bytes: &[u8]) -> Result<DynamicMessage, WriteError> {
    let name = message.full_name().to_owned();
    DynamicMessage::decode(message, bytes).map_err(|source| WriteError::Decode {
        message: name,
        source,
    })
}

fn message_value(message: &DynamicMessage, depth: usize) -> Result<Value, WriteError> {
    if depth > MAX_DEPTH {
        return Err(refuse(message, "nested too deeply"));
    }
    if let Some(value) = known(message, depth)? {
        return Ok(value);
    }
    let mut members = Map::new();
    fields(message, depth, &mut members)?;
    Ok(Value::Object(members))
}

fn fields(
    message: &DynamicMessage,
    depth: usize,
    members: &mut Map<String, Value>,
) -> Result<(), WriteError> {
    let descriptor = message.descriptor();
    for field in descriptor.fields().filter(|field| message.has_field(field)) {
        let value = field_value(&field, message.get_field(&field).as_ref(), depth)?;
        members.insert(field.json_name().to_owned(), value);
    }
    Ok(())
}

fn field_value(field: &FieldDescriptor, value: &Field, depth: usize) -> Result<Value, WriteError> {
    match value {
        Field::List(elements) => elements
            .iter()
            .map(|element| single(&field.kind(), element, depth))
            .collect::<Result<_, _>>()
            .map(Value::Array),
        Field::Map(entries) => {
            let Kind::Message(entry) = field.kind() else {
                return Ok(Value::Null);
            };
            let kind = entry.map_entry_value_field().kind();
            let mut entries: Vec<_> = entries.iter().collect();
            entries.sort_unstable_by_key(|(key, _)| *key);
            let mut members = Map::new();
            for (key, value) in entries {
                members.insert(key_text(key), single(&kind, value, depth)?);
            }
            Ok(Value::Object(members))
        }
        _ => single(&field.kind(), value, depth),
    }
}

fn key_text(key: &MapKey) -> String {
    match key {
        MapKey::Bool(key) => key.to_string(),
        MapKey::I32(key) => key.to_string(),
        MapKey::I64(key) => key.to_string(),
        MapKey::U32(key) => key.to_string(),
        MapKey::U64(key) => key.to_string(),
        MapKey::String(key) => key.clone(),
    }
}

fn single(kind: &Kind, value: &Field, depth: usize) -> Result<Value, WriteError> {
    Ok(match value {
        Field::Bool(value) => Value::Bool(*value),
        Field::I32(value) => Value::from(*value),
        Field::U32(value) => Value::from(*value),
        Field::I64(value) => Value::from(value.to_string()),
        Field::U64(value) => Value::from(value.to_string()),
        // The shortest text of the narrow number, not of what it widens to.
        Field::F32(value) if value.is_finite() => double(
            value
                .to_string()
                .parse()
                .unwrap_or_else(|_| f64::from(*value)),
        ),
        Field::F32(value) => double(f64::from(*value)),
        Field::F64(value) => double(*value),
        Field::String(value) => Value::from(value.clone()),
        Field::Bytes(value) => Value::from(STANDARD.encode(value)),
        Field::EnumNumber(number) => match kind {
            Kind::Enum(kind) if kind.full_name() == "google.protobuf.NullValue" => Value::Null,
            Kind::Enum(kind) => kind
                .get_value(*number)
                .map_or_else(|| Value::from(*number), |value| Value::from(value.name())),
            _ => Value::from(*number),
        },
        Field::Message(message) => message_value(message, depth + 1)?,
        // Lists and maps have no lists and maps as elements.
        Field::List(_) | Field::Map(_) => Value::Null,
    })
}

/// Whole numbers without point, as Go writes them.
fn double(value: f64) -> Value {
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let negative_zero = value == 0.0 && value.is_sign_negative();
    if value.fract() == 0.0 && value.abs() <= EXACT && !negative_zero {
        #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
        return Value::from(value as i64);
    }
    Number::from_f64(value).map_or_else(
        || {
            Value::from(if value.is_nan() {
                "NaN"
            } else if value > 0.0 {
                "Infinity"
            } else {
                "-Infinity"
            })
        },
        Value::Number,
    )
}

fn refuse(message: &DynamicMessage, reason: &'static str) -> WriteError {
    WriteError::Value {
        message: message.descriptor().full_name().to_owned(),
        reason,
    }
}

/// Well-known types that are not written as objects of their fields.
fn known(message: &DynamicMessage, depth: usize) -> Result<Option<Value>, WriteError> {
    let descriptor = message.descriptor();
    let Some(name) = descriptor.full_name().strip_prefix("google.protobuf.") else {
        return Ok(None);
    };
    Ok(Some(match name {
        "Any" => any_value(message, depth)?,
        "Duration" => {
            let (seconds, nanos) = seconds_and_nanos(message);
            if seconds.abs_diff(0) > duration::MAX_SECONDS.unsigned_abs() {
                return Err(refuse(message, "more than 10,000 years"));
            }
            Value::from(duration::format(&prost_types::Duration { seconds, nanos }))
        }
        "Timestamp" => {
            let (seconds, nanos) = seconds_and_nanos(message);
            if !(FIRST_SECOND..=LAST_SECOND).contains(&seconds)
                || !(0..1_000_000_000).contains(&nanos)
            {
                return Err(refuse(message, "outside the years 1 to 9999"));
            }
            Value::from(prost_types::Timestamp { seconds, nanos }.to_string())
        }
        "FieldMask" => {
            let paths = message.get_field_by_number(1);
            let paths = paths
                .as_deref()
                .and_then(Field::as_list)
                .unwrap_or_default();
            let paths: Vec<_> = paths
                .iter()
                .filter_map(Field::as_str)
                .map(camel_case)
                .collect();
            Value::from(paths.join(","))
        }
        "Struct" | "ListValue" => match descriptor.get_field(1) {
            Some(field) => {
                let empty = if name == "Struct" {
                    Value::Object(Map::new())
                } else {
                    Value::Array(Vec::new())
                };
                if message.has_field(&field) {
                    field_value(&field, message.get_field(&field).as_ref(), depth)?
                } else {
                    empty
                }
            }
            None => return Ok(None),
        },
        "Value" => match descriptor.fields().find(|field| message.has_field(field)) {
            Some(field) => {
                let value = message.get_field(&field);
                if value.as_f64().is_some_and(|number| !number.is_finite()) {
                    return Err(refuse(message, "not a finite number"));
                }
                field_value(&field, value.as_ref(), depth)?
            }
            None => Value::Null,
        },
        "BoolValue" | "StringValue" | "BytesValue" | "Int32Value" | "UInt32Value"
        | "Int64Value" | "UInt64Value" | "FloatValue" | "DoubleValue" => {
            match descriptor.get_field(1) {
                Some(field) => single(&field.kind(), message.get_field(&field).as_ref(), depth)?,
                None => return Ok(None),
            }
        }
        _ => return Ok(None),
    }))
}

fn seconds_and_nanos(message: &DynamicMessage) -> (i64, i32) {
    let seconds = message
        .get_field_by_number(1)
        .and_then(|value| value.as_i64())
        .unwrap_or_default();
    let nanos = message
        .get_field_by_number(2)
        .and_then(|value| value.as_i32())
        .unwrap_or_default();
    (seconds, nanos)
}

fn any_value(message: &DynamicMessage, depth: usize) -> Result<Value, WriteError> {
    let type_url = message.get_field_by_number(1);
    let type_url = type_url
        .as_deref()
        .and_then(Field::as_str)
        .unwrap_or_default();
    let bytes = message.get_field_by_number(2);
    let bytes = bytes
        .as_deref()
        .and_then(Field::as_bytes)
        .cloned()
        .unwrap_or_default();
    let mut members = Map::new();
    if type_url.is_empty() {
        return Ok(Value::Object(members));
    }
    members.insert("@type".to_owned(), Value::from(type_url));
    let Some(inner) = descriptor::message(any::message_name(type_url)) else {
        members.insert("value".to_owned(), Value::from(STANDARD.encode(&bytes)));
        return Ok(Value::Object(members));
    };
    let inner = decode(inner, &bytes)?;
    if depth >= MAX_DEPTH {
        return Err(refuse(message, "nested too deeply"));
    }
    match known(&inner, depth + 1)? {
        Some(value) => {
            members.insert("value".to_owned(), value);
        }
        None => fields(&inner, depth + 1, &mut members)?,
    }
    Ok(Value::Object(members))
}

fn camel_case(path: &str) -> String {
    let mut out = String::with_capacity(path.len());
    let mut upper = false;
    for c in path.chars() {
        if c == '_' {
            upper = true;
        } else {
            out.push(if upper { c.to_ascii_uppercase() } else { c });
            upper = false;
        }
    }
    out
}
