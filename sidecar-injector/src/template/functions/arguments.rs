//! Arguments and results of functions.

use gotmpl::{TemplateError, Value as GoValue};
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) type Result = std::result::Result<GoValue, TemplateError>;

pub(super) fn arg(args: &[GoValue], index: usize) -> GoValue {
    args.get(index).cloned().unwrap_or(GoValue::Nil)
}

/// Text of a value; empty for a missing one.
pub(super) fn text(value: &GoValue) -> String {
    match value {
        GoValue::Nil => String::new(),
        GoValue::String(text) => text.to_string(),
        other => other.to_string(),
    }
}

pub(super) fn arg_text(args: &[GoValue], index: usize) -> String {
    text(&arg(args, index))
}

pub(super) fn string(text: String) -> GoValue {
    GoValue::String(text.into())
}

pub(super) fn items(value: &GoValue) -> Vec<GoValue> {
    match value {
        GoValue::List(items) => items.to_vec(),
        _ => Vec::new(),
    }
}

pub(super) fn map_of(value: &GoValue) -> BTreeMap<Arc<str>, GoValue> {
    match value {
        GoValue::Map(map) => map.as_ref().clone(),
        _ => BTreeMap::new(),
    }
}

pub(super) fn number(value: &GoValue) -> i64 {
    match value {
        GoValue::Int(number) => *number,
        GoValue::Float(number) => *number as i64,
        other => text(other).trim().parse().unwrap_or(0),
    }
}
