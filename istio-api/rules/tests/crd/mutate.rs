//! Small changes of a document.

use serde_json::{Value, json};

/// The document with one value changed, for every value and every change that fits it.
pub(crate) fn changes(document: &Value) -> Vec<Value> {
    let mut found = variants(document);
    match document {
        Value::Object(members) => {
            for (name, value) in members {
                for changed in changes(value) {
                    let mut members = members.clone();
                    members.insert(name.clone(), changed);
                    found.push(Value::Object(members));
                }
            }
        }
        Value::Array(elements) => {
            for (i, value) in elements.iter().enumerate() {
                for changed in changes(value) {
                    let mut elements = elements.clone();
                    elements[i] = changed;
                    found.push(Value::Array(elements));
                }
            }
        }
        _ => {}
    }
    found
}

/// What one value may become.
fn variants(value: &Value) -> Vec<Value> {
    const TEXTS: &[&str] = &[
        "",
        "*",
        "a.com",
        "*.a.com",
        "0s",
        "1ns",
        "a b",
        "unix:///a/",
        "10.0.0.0/8",
        "ftp://a/b",
        "NONE",
        "DNS_ROUND_ROBIN",
        "REMOVE",
        "ns/*",
    ];
    const NUMBERS: &[i64] = &[0, -1, 80, 101, 600, 65_536, 5_000_000_000];
    match value {
        Value::String(_) => {
            let long = json!("x".repeat(400));
            TEXTS.iter().map(|text| json!(text)).chain([long]).collect()
        }
        Value::Number(_) => NUMBERS.iter().map(|number| json!(number)).collect(),
        Value::Bool(value) => vec![json!(!value)],
        Value::Array(elements) => {
            let times = |times: usize| {
                let many = elements.iter().cycle().take(elements.len() * times);
                Value::Array(many.cloned().collect())
            };
            vec![json!([]), times(2), times(300), json!([null])]
        }
        Value::Object(members) => {
            let without = |name: &String| {
                let mut members = members.clone();
                members.remove(name);
                Value::Object(members)
            };
            members.keys().map(without).chain([Value::Null]).collect()
        }
        Value::Null => Vec::new(),
    }
}
