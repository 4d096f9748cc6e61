//! The generated definitions: what is in the chart, and that schema and validation agree.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

#[path = "crd/evaluate.rs"]
mod evaluate;
#[path = "crd/mutate.rs"]
mod mutate;
#[path = "validation/table.rs"]
#[allow(dead_code, reason = "shared with the tests of validation")]
mod table;
#[path = "crd/yaml.rs"]
mod yaml;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use istio_api::collections::COLLECTIONS;
use istio_api::json::{self, Unknown};
use istio_api::object::{Meta, Object};
use istio_rules::crd;
use istio_rules::validation::{Severity, validate};
use serde_json::{Value, json};

use evaluate::{Refusal, Schema};

#[test]
fn the_chart_has_what_the_descriptors_say() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../helm/istio-init/files");
    let mut names = BTreeSet::new();
    for row in COLLECTIONS {
        let name = yaml::file_name(row);
        let found = fs::read_to_string(folder.join(&name)).unwrap_or_default();
        let wanted = yaml::write(&crd::definition(row)).unwrap();
        assert!(found == wanted, "{name} is stale: run `cargo xtask crds`");
        names.insert(name);
    }
    for entry in fs::read_dir(folder).unwrap() {
        let name = entry.unwrap().file_name().into_string().unwrap();
        assert!(names.contains(&name), "{name} is not of a known kind");
    }
}

/// Constraints that only the schema has: where the path ends, and which one.
const SCHEMA_ONLY: &[(&str, &str)] = &[
    // An element or member of the wrong type, null included, that decoding converts or drops: a
    // number for text, text for a number, null in a list.
    ("", "type"),
    ("", "enum"),
    // A member that decoding reads as empty when it is missing, and that no rule requires.
    ("", "required"),
    // Two members of one `oneof`: decoding keeps the last.
    ("", "oneOf"),
    (".spec", "want one of wasm and lua"),
    // Sizes without a rule, of which a file may have more than a cluster would store.
    ("", "maxItems"),
    ("", "maxLength"),
    ("", "minItems"),
    ("", "minLength"),
    ("", "x-kubernetes-list-map-keys"),
    (".warmup.minimumPercent", "minimum"),
    // EF-23, SE-02 and the like: nearly the same rule, or a wider one.
    (
        ".configPatches.match",
        "want waypoint where context is WAYPOINT, and only there",
    ),
    (".spec", "want only one of workloadSelector and endpoints"),
    (".jwksUri", "want an address with scheme http or https"),
    (".portLevelMtls", "minProperties"),
    (".spec", "want endpoints only where resolution is not NONE"),
    (".targetPort", "want a port, 1 to 65535"),
    (
        ".url",
        "want an address without scheme or with one of http, https, oci and file",
    ),
    // A WorkloadGroup's template has no rules (WG-01).
    (
        ".template",
        "want no ports where the address is a Unix socket",
    ),
    (
        ".template.address",
        "want the path of a socket, not of a directory",
    ),
    (".template.ports", "want names of ports that are DNS labels"),
    (".template.ports.a_b", "want a port, 1 to 65535"),
];

fn is_schema_only(refusal: &Refusal) -> bool {
    SCHEMA_ONLY
        .iter()
        .any(|(at, by)| refusal.at.ends_with(at) && refusal.by == *by)
}

/// What the schema refuses of a spec that validation accepts, against the list above.
fn disagreements(schema: &Schema, object: &Object, spec: &Value) -> Vec<Refusal> {
    let problems = validate(object);
    if problems
        .iter()
        .any(|problem| problem.severity == Severity::Error)
    {
        return Vec::new();
    }
    let refusals = schema.refusals(&json!({"spec": spec}));
    refusals
        .into_iter()
        .filter(|one| !is_schema_only(one))
        .collect()
}

#[test]
fn what_validation_accepts_the_schema_accepts() {
    let mut wrong = BTreeSet::new();
    for table in table::tables() {
        let schema = Schema::new(crd::object_schema(table.collection()));
        for case in &table.cases {
            for fragment in &case.good {
                let object = table::object(&table, case, fragment).unwrap();
                let (_, spec) = table::parts(&table, case, fragment).unwrap();
                for refusal in disagreements(&schema, &object, &spec) {
                    wrong.insert(format!("{} {} {refusal:?}", table.name, case.rule));
                }
            }
        }
    }
    let wrong: Vec<_> = wrong.into_iter().collect();
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The same for good documents with one value changed, in several ways.
#[test]
fn schema_and_validation_agree_on_changed_documents() {
    let mut wrong = BTreeMap::new();
    let mut read = 0;
    for table in table::tables() {
        let collection = table.collection();
        let schema = Schema::new(crd::object_schema(collection));
        let specs: BTreeSet<String> = table
            .cases
            .iter()
            .flat_map(|case| case.good.iter().map(move |fragment| (case, fragment)))
            .map(|(case, fragment)| table::parts(&table, case, fragment).unwrap().1.to_string())
            .collect();
        for spec in specs {
            let changes = mutate::changes(&serde_json::from_str(&spec).unwrap());
            // Documents have much in common, so some of the changes of each are enough.
            for changed in changes.into_iter().step_by(3) {
                let Ok((body, _)) =
                    json::read_dynamic(collection.message, &changed, Unknown::Prune)
                else {
                    continue;
                };
                let object = Object {
                    meta: Meta {
                        name: "default".into(),
                        namespace: "ns".into(),
                        ..Meta::default()
                    },
                    collection,
                    body: body.clone().into(),
                };
                read += 1;
                for refusal in disagreements(&schema, &object, &changed) {
                    let at = (collection.kind, refusal);
                    wrong.entry(at).or_insert_with(|| changed.to_string());
                }
                // What was read can be written and read again, unchanged.
                let text = json::write(collection.message, &body).unwrap();
                let again = json::read_dynamic(collection.message, &text, Unknown::Refuse).unwrap();
                assert_eq!(again.0, body, "{} {changed}", collection.kind);
            }
        }
    }
    println!("{read} changed documents");
    assert!(read > 5_000, "only {read}");
    let lines = wrong.iter().map(|((kind, refusal), spec)| {
        let spec: String = spec.chars().take(200).collect();
        format!("{kind}{} {:?}: {spec}", refusal.at, refusal.by)
    });
    let lines: Vec<_> = lines.collect();
    assert!(lines.is_empty(), "{}", lines.join("\n"));
}
