//! Tables of cases, and how a case becomes an object.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use istio_api::collections::{COLLECTIONS, Collection};
use istio_api::json::{self, Unknown};
use istio_api::object::{Meta, Object};
use serde::Deserialize;
use serde_json::{Map, Value};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Table {
    #[serde(skip)]
    pub(crate) name: String,
    kind: String,
    #[serde(default)]
    templates: BTreeMap<String, Value>,
    #[serde(default)]
    pub(crate) also: Vec<String>,
    pub(crate) cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Case {
    pub(crate) rule: String,
    #[serde(rename = "in")]
    template: Option<String>,
    #[serde(default)]
    pub(crate) good: Vec<Value>,
    #[serde(default)]
    pub(crate) bad: Vec<Value>,
    #[serde(default)]
    pub(crate) at: String,
    #[serde(default)]
    pub(crate) says: String,
    #[serde(default)]
    pub(crate) warn: bool,
    #[serde(default)]
    pub(crate) also: Vec<String>,
}

/// All tables, ordered by name.
pub(crate) fn tables() -> Vec<Table> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/validation");
    let mut tables: Vec<Table> = fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| {
            path.extension()
                .is_some_and(|extension| extension == "yaml")
        })
        .map(|path| Table::read(&path))
        .collect();
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables
}

impl Table {
    pub(crate) fn read(path: &Path) -> Self {
        let text = fs::read_to_string(path).unwrap();
        let mut table: Self =
            serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        table.name = path.file_stem().unwrap().to_string_lossy().into_owned();
        table
    }

    pub(crate) fn collection(&self) -> &'static Collection {
        COLLECTIONS
            .iter()
            .find(|row| row.kind == self.kind)
            .unwrap_or_else(|| panic!("{} is not a known kind", self.kind))
    }
}

/// Metadata and spec that a fragment stands for.
pub(crate) fn parts(
    table: &Table,
    case: &Case,
    fragment: &Value,
) -> Result<(Value, Value), String> {
    let whole = match &case.template {
        None => fragment.clone(),
        Some(name) => {
            let template = table.templates.get(name);
            filled(
                template.ok_or_else(|| format!("there is no template {name}"))?,
                fragment,
            )
        }
    };
    let whole = grown(whole);
    Ok(match whole.get("spec") {
        Some(spec) => (
            whole.get("metadata").cloned().unwrap_or_default(),
            spec.clone(),
        ),
        None => (Value::Null, whole),
    })
}

/// The object that a fragment stands for.
pub(crate) fn object(table: &Table, case: &Case, fragment: &Value) -> Result<Object, String> {
    let (metadata, spec) = parts(table, case, fragment)?;
    let collection = table.collection();
    let (body, _) = json::read_dynamic(collection.message, &spec, Unknown::Refuse)
        .map_err(|issues| format!("{issues:?}"))?;
    let text = |name: &str, other: &str| metadata[name].as_str().unwrap_or(other).to_owned();
    let texts = |name: &str| {
        let members = metadata[name].as_object().cloned().unwrap_or_default();
        let pairs = members.into_iter();
        pairs
            .map(|(name, value)| (name, value.as_str().unwrap().to_owned()))
            .collect()
    };
    Ok(Object {
        meta: Meta {
            namespace: text("namespace", "ns"),
            name: text("name", "default"),
            labels: texts("labels"),
            annotations: texts("annotations"),
            ..Meta::default()
        },
        collection,
        body: body.into(),
    })
}

fn filled(template: &Value, fragment: &Value) -> Value {
    match template {
        Value::String(text) if text == "$" => fragment.clone(),
        Value::Array(elements) => elements.iter().map(|one| filled(one, fragment)).collect(),
        Value::Object(members) => {
            let mut result = Map::new();
            for (name, value) in members {
                if name != "+" {
                    result.insert(name.clone(), filled(value, fragment));
                }
            }
            if members.contains_key("+") {
                let more = fragment.as_object().expect("a fragment with members");
                result.extend(
                    more.iter()
                        .map(|(name, value)| (name.clone(), value.clone())),
                );
            }
            Value::Object(result)
        }
        other => other.clone(),
    }
}

/// Expands texts that are too long for a table: `repeat:3` is `xxx`.
fn grown(value: Value) -> Value {
    match value {
        Value::String(text) => match text.strip_prefix("repeat:") {
            Some(count) => Value::String("x".repeat(count.parse().unwrap())),
            None => Value::String(text),
        },
        Value::Array(elements) => elements.into_iter().map(grown).collect(),
        Value::Object(members) => {
            let members = members.into_iter();
            Value::Object(members.map(|(name, value)| (name, grown(value))).collect())
        }
        other => other,
    }
}
