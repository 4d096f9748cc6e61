//! Functions of sprig, and conversions to and from JSON and YAML.

use super::arguments::{Result, arg, arg_text, items, map_of, number, string, text};
use crate::pod::sorted_json;
use crate::template::go_value::{plain, to_json};
use gotmpl::{TemplateError, Value as GoValue};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

pub(super) fn int(args: &[GoValue]) -> Result {
    Ok(GoValue::Int(number(&arg(args, 0))))
}

pub(super) fn to_json_text(args: &[GoValue]) -> Result {
    let value = arg(args, 0);
    let json = if matches!(value, GoValue::Nil) {
        Value::Object(Map::new())
    } else {
        to_json(&value)
    };
    Ok(string(sorted_json(&json)))
}

pub(super) fn from_json(args: &[GoValue]) -> Result {
    serde_json::from_str(&arg_text(args, 0))
        .map(|value: Value| plain(&value))
        .map_err(|error| TemplateError::Exec(format!("fromJSON: {error}")))
}

pub(super) fn to_yaml(args: &[GoValue]) -> Result {
    serde_yaml::to_string(&to_json(&arg(args, 0)))
        .map(|text| string(text.trim_end().to_owned()))
        .map_err(|error| TemplateError::Exec(format!("toYaml: {error}")))
}

fn indented(width: i64, text: &str) -> String {
    let width = usize::try_from(width).unwrap_or(0).min(1000);
    text.replace('\n', &format!("\n{}", " ".repeat(width)))
}

/// Indents all lines except the first.
pub(super) fn indent(args: &[GoValue]) -> Result {
    Ok(string(indented(number(&arg(args, 0)), &arg_text(args, 1))))
}

/// A newline, then all lines indented.
pub(super) fn nindent(args: &[GoValue]) -> Result {
    Ok(string(indented(
        number(&arg(args, 0)),
        &format!("\n{}", arg_text(args, 1)),
    )))
}

pub(super) fn omit(args: &[GoValue]) -> Result {
    let mut map = map_of(&arg(args, 0));
    for key in args.iter().skip(1) {
        map.remove(text(key).as_str());
    }
    Ok(GoValue::Map(Arc::new(map)))
}

pub(super) fn omit_nil(args: &[GoValue]) -> Result {
    let mut map = map_of(&arg(args, 0));
    map.retain(|_, value| !matches!(value, GoValue::Nil));
    Ok(GoValue::Map(Arc::new(map)))
}

pub(super) fn dict(args: &[GoValue]) -> Result {
    let map = args
        .chunks(2)
        .map(|pair| (Arc::from(arg_text(pair, 0)), arg(pair, 1)))
        .collect::<BTreeMap<_, _>>();
    Ok(GoValue::Map(Arc::new(map)))
}

/// A double-quoted text that means the same in JSON and YAML: characters that YAML does not accept
/// literally are escaped.
pub(super) fn quoted(value: &GoValue) -> String {
    let mut out = String::from('"');
    for c in text(value).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control()
                || matches!(
                    c,
                    '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
                ) =>
            {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `trunc n s`: the first n characters, or the last -n.
pub(super) fn trunc(args: &[GoValue]) -> Result {
    let length = number(&arg(args, 0));
    let text = arg_text(args, 1);
    let count = text.chars().count();
    let wanted = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(string(if length >= 0 {
        text.chars().take(wanted).collect()
    } else {
        text.chars().skip(count.saturating_sub(wanted)).collect()
    }))
}

pub(super) fn trimmed(
    args: &[GoValue],
    strip: for<'a> fn(&'a str, &str) -> Option<&'a str>,
) -> GoValue {
    let (part, whole) = (arg_text(args, 0), arg_text(args, 1));
    string(strip(&whole, part.as_str()).unwrap_or(&whole).to_owned())
}

pub(super) fn join(args: &[GoValue]) -> Result {
    let parts: Vec<String> = items(&arg(args, 1)).iter().map(text).collect();
    Ok(string(parts.join(&arg_text(args, 0))))
}

pub(super) fn split(args: &[GoValue]) -> Result {
    let (separator, whole) = (arg_text(args, 0), arg_text(args, 1));
    Ok(GoValue::List(
        whole
            .split(separator.as_str())
            .map(|part| string(part.to_owned()))
            .collect(),
    ))
}

pub(super) fn append(args: &[GoValue]) -> Result {
    let mut list = items(&arg(args, 0));
    list.push(arg(args, 1));
    Ok(GoValue::List(list.into()))
}

pub(super) fn prepend(args: &[GoValue]) -> Result {
    let mut list = items(&arg(args, 0));
    list.insert(0, arg(args, 1));
    Ok(GoValue::List(list.into()))
}

pub(super) fn uniq(args: &[GoValue]) -> Result {
    let mut seen: Vec<GoValue> = Vec::new();
    for item in items(&arg(args, 0)) {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    Ok(GoValue::List(seen.into()))
}

pub(super) fn b64enc(args: &[GoValue]) -> Result {
    use base64::Engine as _;
    Ok(string(
        base64::engine::general_purpose::STANDARD.encode(arg_text(args, 0)),
    ))
}
