//! One JSON value as one protobuf scalar.

use base64::Engine as _;
use base64::alphabet;
use base64::engine::{DecodePaddingMode, GeneralPurpose, GeneralPurposeConfig};
use prost_reflect::{EnumDescriptor, Kind};
use serde_json::{Number, Value};

use super::wire::{Key, Wire};

/// 0001-01-01T00:00:00Z
pub(super) const FIRST_SECOND: i64 = -62_135_596_800;
/// 9999-12-31T23:59:59Z
pub(super) const LAST_SECOND: i64 = 253_402_300_799;

const RELAXED: GeneralPurposeConfig =
    GeneralPurposeConfig::new().with_decode_padding_mode(DecodePaddingMode::Indifferent);
const STANDARD: GeneralPurpose = GeneralPurpose::new(&alphabet::STANDARD, RELAXED);
const URL_SAFE: GeneralPurpose = GeneralPurpose::new(&alphabet::URL_SAFE, RELAXED);

/// Longest text that an error repeats, in characters.
const SHOWN: usize = 60;

/// Describes a value in errors: `string "a"`, `number 5`, `array`.
pub(super) fn describe(value: &Value) -> String {
    match value {
        Value::Null => "null".to_owned(),
        Value::Bool(value) => format!("boolean {value}"),
        Value::Number(value) => format!("number {value}"),
        Value::String(text) => format!("string {}", quote(text)),
        Value::Array(_) => "array".to_owned(),
        Value::Object(_) => "object".to_owned(),
    }
}

/// The text in quotes, cut when it is long.
pub(super) fn quote(text: &str) -> String {
    match text.char_indices().nth(SHOWN) {
        Some((end, _)) => format!("{:?}...", text.get(..end).unwrap_or_default()),
        None => format!("{text:?}"),
    }
}

pub(super) fn want(wanted: &str, value: &Value) -> String {
    format!("want {wanted}, got {}", describe(value))
}

/// The value that `null` in a list or map stands for.
pub(super) fn zero(kind: &Kind) -> Wire {
    match kind {
        Kind::Double | Kind::Fixed64 | Kind::Sfixed64 => Wire::Fixed64(0),
        Kind::Float | Kind::Fixed32 | Kind::Sfixed32 => Wire::Fixed32(0),
        Kind::String | Kind::Bytes => Wire::Bytes(Vec::new()),
        Kind::Message(_) => Wire::Message(Vec::new()),
        _ => Wire::Varint(0),
    }
}

/// Reads a scalar; messages are for the caller.
#[expect(clippy::cast_sign_loss, reason = "the wire format takes the bits")]
pub(super) fn read(kind: &Kind, value: &Value) -> Result<Wire, String> {
    Ok(match kind {
        Kind::Bool => Wire::Varint(u64::from(boolean(value)?)),
        Kind::Int32 => Wire::Varint(integer(value, i32::MIN.into(), i32::MAX.into())? as u64),
        Kind::Int64 => Wire::Varint(integer(value, i64::MIN.into(), i64::MAX.into())? as u64),
        Kind::Uint32 => Wire::Varint(integer(value, 0, u32::MAX.into())? as u64),
        Kind::Uint64 => Wire::Varint(integer(value, 0, u64::MAX.into())? as u64),
        Kind::Sint32 | Kind::Sint64 => {
            let limit = if matches!(kind, Kind::Sint32) {
                i64::from(i32::MAX)
            } else {
                i64::MAX
            };
            let number = integer(value, -i128::from(limit) - 1, limit.into())?;
            Wire::Varint(((number << 1) ^ (number >> 127)) as u64)
        }
        Kind::Fixed32 => Wire::Fixed32(integer(value, 0, u32::MAX.into())? as u32),
        Kind::Sfixed32 => Wire::Fixed32(integer(value, i32::MIN.into(), i32::MAX.into())? as u32),
        Kind::Fixed64 => Wire::Fixed64(integer(value, 0, u64::MAX.into())? as u64),
        Kind::Sfixed64 => Wire::Fixed64(integer(value, i64::MIN.into(), i64::MAX.into())? as u64),
        Kind::Double => Wire::Fixed64(double(value)?.to_bits()),
        Kind::Float => {
            let wide = double(value)?;
            #[expect(clippy::cast_possible_truncation, reason = "checked in the next line")]
            let narrow = wide as f32;
            if wide.is_finite() && !narrow.is_finite() {
                return Err(want("number that fits 32 bits", value));
            }
            Wire::Fixed32(narrow.to_bits())
        }
        Kind::String => match value {
            Value::String(text) => Wire::Bytes(text.clone().into_bytes()),
            _ => return Err(want("string", value)),
        },
        Kind::Bytes => Wire::Bytes(bytes(value)?),
        Kind::Enum(kind) => Wire::Varint(i64::from(enumeration(kind, value)?) as u64),
        Kind::Message(message) => return Err(want(message.name(), value)),
    })
}

/// Reads the text of a map key.
pub(super) fn key(kind: &Kind, text: &str) -> Result<Key, String> {
    let number = |low: i128, high: i128| {
        text.parse::<i128>()
            .ok()
            .filter(|number| (low..=high).contains(number))
            .ok_or_else(|| {
                format!(
                    "want key that is an integer from {low} to {high}, got {}",
                    quote(text)
                )
            })
    };
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "the range is checked"
    )]
    Ok(match kind {
        Kind::String => Key::Text(text.to_owned()),
        Kind::Bool => match text {
            "true" => Key::Bool(true),
            "false" => Key::Bool(false),
            _ => return Err(format!("want key true or false, got {}", quote(text))),
        },
        Kind::Uint32 | Kind::Fixed32 => Key::Unsigned(number(0, u32::MAX.into())? as u64),
        Kind::Uint64 | Kind::Fixed64 => Key::Unsigned(number(0, u64::MAX.into())? as u64),
        Kind::Int32 | Kind::Sint32 | Kind::Sfixed32 => {
            Key::Signed(number(i32::MIN.into(), i32::MAX.into())? as i64)
        }
        _ => Key::Signed(number(i64::MIN.into(), i64::MAX.into())? as i64),
    })
}

/// The encoding of a key that [`key`] read with the same kind.
#[expect(
    clippy::cast_possible_truncation,
    clippy::cast_sign_loss,
    reason = "the wire format takes the bits"
)]
pub(super) fn encode_key(kind: &Kind, key: &Key) -> Wire {
    match (key, kind) {
        (Key::Text(text), _) => Wire::Bytes(text.clone().into_bytes()),
        (Key::Bool(value), _) => Wire::Varint(u64::from(*value)),
        (Key::Unsigned(value), Kind::Fixed32) => Wire::Fixed32(*value as u32),
        (Key::Unsigned(value), Kind::Fixed64) => Wire::Fixed64(*value),
        (Key::Unsigned(value), _) => Wire::Varint(*value),
        (Key::Signed(value), Kind::Sfixed32) => Wire::Fixed32(*value as u32),
        (Key::Signed(value), Kind::Sfixed64) => Wire::Fixed64(*value as u64),
        (Key::Signed(value), Kind::Sint32 | Kind::Sint64) => {
            Wire::Varint(((value << 1) ^ (value >> 63)) as u64)
        }
        (Key::Signed(value), _) => Wire::Varint(*value as u64),
    }
}

/// `true` and `false`, and the words that YAML 1.1 reads as such when they come as strings.
pub(super) fn boolean(value: &Value) -> Result<bool, String> {
    let word = match value {
        Value::Bool(value) => return Ok(*value),
        Value::String(word) => word,
        _ => return Err(want("true or false", value)),
    };
    // YAML 1.1 accepts each word in lower case, in upper case, and capitalised.
    let lower = word.to_ascii_lowercase();
    let capitalised = word.chars().skip(1).all(|c| c.is_ascii_lowercase());
    let capitals = word.chars().all(|c| c.is_ascii_uppercase());
    match lower.as_str() {
        "true" | "yes" | "y" | "on" if capitalised || capitals => Ok(true),
        "false" | "no" | "n" | "off" if capitalised || capitals => Ok(false),
        _ => Err(want("true or false", value)),
    }
}

fn integer(value: &Value, low: i128, high: i128) -> Result<i128, String> {
    let number = match value {
        Value::Number(number) => whole(number),
        Value::String(text) => text.parse::<Number>().ok().as_ref().and_then(whole),
        _ => None,
    };
    number
        .filter(|number| (low..=high).contains(number))
        .ok_or_else(|| want(&format!("integer from {low} to {high}"), value))
}

/// The integer that a number is, `1.0` and `1e3` included.
fn whole(number: &Number) -> Option<i128> {
    if let Some(value) = number.as_i64() {
        return Some(value.into());
    }
    if let Some(value) = number.as_u64() {
        return Some(value.into());
    }
    // Beyond 2^53 a float is not exact.
    const EXACT: f64 = 9_007_199_254_740_992.0;
    let value = number.as_f64()?;
    #[expect(clippy::cast_possible_truncation, reason = "whole and below 2^53")]
    (value.fract() == 0.0 && value.abs() <= EXACT).then_some(value as i128)
}

fn double(value: &Value) -> Result<f64, String> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => match text.as_str() {
            "NaN" => Some(f64::NAN),
            "Infinity" => Some(f64::INFINITY),
            "-Infinity" => Some(f64::NEG_INFINITY),
            text => text
                .parse::<Number>()
                .ok()
                .and_then(|number| number.as_f64()),
        },
        _ => None,
    }
    // Minus zero becomes zero: prost leaves both out, and equal messages must have equal bytes.
    .map(|number| number + 0.0)
    .ok_or_else(|| want("number", value))
}

fn bytes(value: &Value) -> Result<Vec<u8>, String> {
    let Value::String(text) = value else {
        return Err(want("base64 string", value));
    };
    let text = text.trim_end_matches(['\r', '\n']);
    STANDARD
        .decode(text)
        .or_else(|_| URL_SAFE.decode(text))
        .map_err(|_| want("base64 string", value))
}

fn enumeration(kind: &EnumDescriptor, value: &Value) -> Result<i32, String> {
    match value {
        Value::String(name) => kind.get_value_by_name(name).map(|value| value.number()),
        Value::Number(_) => integer(value, i32::MIN.into(), i32::MAX.into())
            .ok()
            .and_then(|n| i32::try_from(n).ok()),
        Value::Null if kind.full_name() == "google.protobuf.NullValue" => Some(0),
        _ => None,
    }
    .ok_or_else(|| {
        let names: Vec<_> = kind.values().map(|value| value.name().to_owned()).collect();
        want(&format!("one of {}", names.join(", ")), value)
    })
}
