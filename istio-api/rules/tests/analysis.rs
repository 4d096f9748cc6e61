//! Analysis by tables: for every code, documents that raise it and neighbours that do not.
//!
//! A table (`analysis/*.yaml`) has a `world`, documents that are part of each of its cases, and
//! cases. A case names a code, the documents that raise it (`bad`), the object that it is raised on
//! (`on`), the field (`at`) and a part of the text (`says`). Each list in `good` is analyzed in
//! their place and raises nothing. What else may be raised in both is in `also`.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

#[path = "analysis/random.rs"]
mod random;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use istio_rules::analysis::catalogue::{CODES, Emitter};
use istio_rules::analysis::{Builder, Message, Request, analyze};
use serde::Deserialize;
use serde_json::Value;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(skip)]
    name: String,
    #[serde(default)]
    world: Vec<Value>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    code: String,
    bad: Vec<Value>,
    good: Vec<Vec<Value>>,
    on: String,
    #[serde(default)]
    at: String,
    says: String,
    #[serde(default)]
    also: Vec<String>,
}

fn tables() -> Vec<Table> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/analysis");
    let mut tables = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.extension().is_none_or(|extension| extension != "yaml") {
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        let mut table: Table =
            serde_yaml::from_str(&text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
        table.name = path.file_stem().unwrap().to_string_lossy().into_owned();
        tables.push(table);
    }
    tables.sort_by(|a, b| a.name.cmp(&b.name));
    tables
}

fn yaml(text: &str) -> Result<Option<Value>, String> {
    serde_yaml::from_str(text).map_err(|error| error.to_string())
}

/// Messages about documents that can all be read.
fn messages<'a>(documents: impl IntoIterator<Item = &'a Value>) -> Vec<Message> {
    let mut builder = Builder::new();
    for document in documents {
        let unusable = builder.read(document, None);
        assert!(unusable.is_empty(), "{document}: {unusable:?}");
    }
    let resources = builder.build("istio-system", "default", yaml);
    let outcome = analyze(&resources, &Request::default());
    assert_eq!(outcome.skipped, Vec::<&str>::new());
    outcome.messages
}

fn shown(messages: &[Message]) -> String {
    let lines = messages
        .iter()
        .map(|message| format!("    {message} at {:?}\n", message.field));
    lines.collect()
}

/// Differences from what the case says, one text each.
fn differences(table: &Table, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let is_also = |message: &Message| case.also.iter().any(|code| code == message.code.code);
    let found = messages(table.world.iter().chain(&case.bad));
    let is_expected = |message: &Message| {
        message.code.code == case.code
            && message
                .origin
                .as_ref()
                .is_some_and(|origin| origin.to_string() == case.on)
            && message.field == case.at
            && message.text().contains(&case.says)
            && message.parameters.len() == message.code.parameters.len()
    };
    if !found.iter().any(is_expected) {
        wrong.push(format!("not found, but\n{}", shown(&found)));
    }
    let is_other = |message: &&Message| message.code.code != case.code && !is_also(message);
    let others: Vec<Message> = found.iter().filter(is_other).cloned().collect();
    if !others.is_empty() {
        wrong.push(format!("also found\n{}", shown(&others)));
    }
    for (i, good) in case.good.iter().enumerate() {
        let found = messages(table.world.iter().chain(good));
        let found: Vec<Message> = found.into_iter().filter(|one| !is_also(one)).collect();
        if !found.is_empty() {
            wrong.push(format!("neighbour {i} raises\n{}", shown(&found)));
        }
    }
    wrong
}

#[test]
fn documents_raise_what_the_tables_say() {
    let mut wrong = Vec::new();
    for table in tables() {
        for (i, case) in table.cases.iter().enumerate() {
            for difference in differences(&table, case) {
                wrong.push(format!("{} {i} {}: {difference}", table.name, case.code));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

#[test]
fn every_code_has_documents_that_raise_it_and_some_that_do_not() {
    let cases: Vec<Case> = tables().into_iter().flat_map(|table| table.cases).collect();
    let told: BTreeSet<&str> = cases
        .iter()
        .filter(|case| !case.bad.is_empty() && !case.good.is_empty())
        .map(|case| case.code.as_str())
        .collect();
    let wanted: BTreeSet<&str> = CODES
        .iter()
        .filter(|code| code.emitter == Emitter::Analyze)
        .map(|code| code.code)
        .collect();
    assert!(wanted.len() > 50, "only {} codes", wanted.len());
    assert_eq!(told, wanted);
}

#[test]
fn what_is_not_known_is_not_missed() {
    let document = serde_json::json!({
        "apiVersion": "networking.istio.io/v1", "kind": "VirtualService",
        "metadata": {"name": "a"},
        "spec": {"hosts": ["a.com"], "http": [{"route": [{"destination": {"host": "nowhere"}}]}]},
    });
    let mut builder = Builder::new();
    assert_eq!(builder.read(&document, None), []);
    builder.without("Service");
    let resources = builder.build("istio-system", "", yaml);
    let outcome = analyze(&resources, &Request::default());
    assert_eq!(shown(&outcome.messages), "");
    let skipped = "virtualservice.DestinationHostAnalyzer";
    assert!(outcome.skipped.contains(&skipped), "{:?}", outcome.skipped);
    assert!(!outcome.executed.contains(&skipped));
}
