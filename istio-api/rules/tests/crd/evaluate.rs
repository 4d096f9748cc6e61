//! How an API server would judge an object by its structural schema.

use std::sync::Arc;

use cel::extractors::This;
use cel::{Context, ExecutionError, Program, Value as Cel};
use serde_json::{Map, Value};

/// One refusal: where, and by which keyword of the schema.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Refusal {
    /// Path without indices, e.g. `.spec.http.route.weight`.
    pub(crate) at: String,
    /// Keyword of the schema, or the message of the rule.
    pub(crate) by: String,
}

/// A schema, ready for many objects.
pub(crate) struct Schema {
    text: Value,
    compiled: jsonschema::Validator,
}

impl Schema {
    pub(crate) fn new(text: Value) -> Self {
        let compiled = jsonschema::validator_for(&text).expect("a schema");
        Self { text, compiled }
    }

    /// Refusals of `object`, after unknown members are pruned and null ones dropped, as an API
    /// server does.
    pub(crate) fn refusals(&self, object: &Value) -> Vec<Refusal> {
        let object = admitted(&self.text, object);
        let errors = self.compiled.iter_errors(&object);
        let mut found: Vec<Refusal> = errors
            .map(|error| Refusal {
                at: plain(error.instance_path().as_str()),
                by: error.kind().keyword().to_owned(),
            })
            .collect();
        rules(&self.text, &object, String::new(), &mut found);
        found.sort();
        found.dedup();
        found
    }
}

fn plain(pointer: &str) -> String {
    let names = pointer.split('/').skip(1);
    names
        .filter(|name| name.parse::<usize>().is_err())
        .map(|name| format!(".{name}"))
        .collect()
}

/// Without unknown members and null ones.
fn admitted(schema: &Value, value: &Value) -> Value {
    match value {
        Value::Object(members) => {
            let keeps = schema["x-kubernetes-preserve-unknown-fields"] == true;
            let mut kept = Map::new();
            for (name, value) in members {
                let property = schema["properties"].get(name);
                let of = property.or_else(|| schema.get("additionalProperties"));
                match of {
                    // Where null is allowed it is kept, and nothing else is checked.
                    Some(_) if value.is_null() => {}
                    Some(of) => {
                        kept.insert(name.clone(), admitted(of, value));
                    }
                    None if keeps => {
                        kept.insert(name.clone(), value.clone());
                    }
                    None => {}
                }
            }
            Value::Object(kept)
        }
        Value::Array(elements) => {
            let of = &schema["items"];
            Value::Array(elements.iter().map(|one| admitted(of, one)).collect())
        }
        other => other.clone(),
    }
}

/// The rules in CEL and the keys of lists, at every value.
fn rules(schema: &Value, value: &Value, at: String, found: &mut Vec<Refusal>) {
    let own = schema["x-kubernetes-validations"].as_array();
    for rule in own.into_iter().flatten() {
        let text = rule["rule"].as_str().expect("a rule");
        if !holds(text, value) {
            let by = rule["message"].as_str().expect("a message").to_owned();
            found.push(Refusal { at: at.clone(), by });
        }
    }
    match value {
        Value::Object(members) => {
            for (name, value) in members {
                let property = schema["properties"].get(name);
                if let Some(of) = property.or_else(|| schema.get("additionalProperties")) {
                    rules(of, value, format!("{at}.{name}"), found);
                }
            }
        }
        Value::Array(elements) => {
            if let Some(key) = schema["x-kubernetes-list-map-keys"][0].as_str() {
                let mut keys: Vec<_> = elements.iter().map(|one| one[key].to_string()).collect();
                keys.sort();
                let count = keys.len();
                keys.dedup();
                if keys.len() < count {
                    let by = "x-kubernetes-list-map-keys".to_owned();
                    found.push(Refusal { at: at.clone(), by });
                }
            }
            for element in elements {
                rules(&schema["items"], element, at.clone(), found);
            }
        }
        _ => {}
    }
}

/// A rule that fails to run does not hold.
fn holds(rule: &str, value: &Value) -> bool {
    let program = Program::compile(rule).unwrap_or_else(|error| panic!("{rule}: {error}"));
    let mut context = Context::default();
    context.add_variable_from_value("self", cel_value(value));
    add_functions(&mut context);
    matches!(program.execute(&context), Ok(Cel::Bool(true)))
}

fn cel_value(value: &Value) -> Cel {
    match value {
        Value::Null => Cel::Null,
        Value::Bool(value) => Cel::Bool(*value),
        Value::Number(number) => number
            .as_i64()
            .map_or_else(|| Cel::Float(number.as_f64().unwrap_or(f64::NAN)), Cel::Int),
        Value::String(text) => Cel::String(Arc::new(text.clone())),
        Value::Array(elements) => {
            Cel::List(Arc::new(elements.iter().map(cel_value).collect::<Vec<_>>()))
        }
        Value::Object(members) => {
            let pairs = members.iter();
            let pairs = pairs.map(|(name, value)| (name.clone(), cel_value(value)));
            Cel::from(pairs.collect::<std::collections::HashMap<String, Cel>>())
        }
    }
}

/// Functions of Kubernetes that plain CEL does not have.
fn add_functions(context: &mut Context<'_, '_>) {
    // As much of Go's parsing of URLs as the rules look at.
    fn scheme(text: &str) -> Option<String> {
        let (scheme, rest) = text.split_once("://")?;
        let is_name = !scheme.is_empty() && scheme.bytes().all(|byte| byte.is_ascii_alphanumeric());
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        let port = authority.rsplit_once(':').map_or("", |(_, port)| port);
        let is_port = port.ends_with(']') || port.bytes().all(|byte| byte.is_ascii_digit());
        (is_name && is_port && !rest.is_empty() && !rest.contains([' ', '\u{7f}']))
            .then(|| scheme.to_lowercase())
    }
    let url = |text: Arc<String>| match scheme(&text) {
        Some(_) => Ok(text),
        None => Err(ExecutionError::function_error("url", "no URL")),
    };
    let added = [
        context.add_function("isURL", |text: Arc<String>| scheme(&text).is_some()),
        context.add_function("url", url),
        context.add_function("getScheme", |This(text): This<Arc<String>>| {
            scheme(&text).unwrap_or_default()
        }),
        context.add_function("substring", |This(text): This<Arc<String>>, from: i64| {
            let from = usize::try_from(from).unwrap_or_default();
            text.chars().skip(from).collect::<String>()
        }),
    ];
    for one in added {
        one.expect("a function");
    }
}
