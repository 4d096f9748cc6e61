//! Validation by tables: for every rule, documents that pass it and documents that it finds.
//!
//! A table (`validation/*.yaml`) has the kind, templates and cases. A case names a rule and gives
//! fragments that are put into a template: `$` stands for the fragment, and a member `+: $` for
//! its members; `repeat:3` is a text of three letters. Without template the fragment is the spec; with a member `spec` it is the whole
//! object. `good` ones pass with no problem, `bad` ones have exactly the problem that `at` and
//! `says` describe, a warning if `warn` is set. Rules in `also` may find something beside it.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

#[path = "validation/random.rs"]
mod random;
#[path = "validation/table.rs"]
mod table;

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use istio_api::collections::{COLLECTIONS, by_gvk};
use istio_api::object::{Meta, Object};
use istio_rules::validation::{Severity, validate};

use table::{Case, Table, object, tables};

fn shown(fragment: &serde_json::Value) -> String {
    fragment.to_string().chars().take(200).collect()
}

/// Differences from what the case says, one line each.
fn differences(table: &Table, case: &Case) -> Vec<String> {
    let mut wrong = Vec::new();
    let fragments = case.good.iter().map(|one| (one, true));
    for (fragment, is_good) in fragments.chain(case.bad.iter().map(|one| (one, false))) {
        let object = match object(table, case, fragment) {
            Ok(object) => object,
            Err(problem) => {
                wrong.push(format!("{}: {problem}", shown(fragment)));
                continue;
            }
        };
        let problems = validate(&object);
        let severity = if case.warn {
            Severity::Warning
        } else {
            Severity::Error
        };
        let is_expected = |problem: &istio_rules::validation::Problem| {
            problem.rule == case.rule
                && problem.path == case.at
                && problem.message.contains(&case.says)
                && problem.severity == severity
        };
        if !is_good && !problems.iter().any(is_expected) {
            wrong.push(format!("{}: not found, but {problems:#?}", shown(fragment)));
            continue;
        }
        let also = |rule: &str| {
            case.also
                .iter()
                .chain(&table.also)
                .any(|other| other == rule)
        };
        for problem in problems {
            let of_rule = !is_good && problem.rule == case.rule;
            if !of_rule && !also(problem.rule) {
                wrong.push(format!("{}: unexpected {problem:#?}", shown(fragment)));
            }
        }
    }
    wrong
}

#[test]
fn documents_pass_or_fail_as_the_tables_say() {
    let mut wrong = Vec::new();
    for table in tables() {
        for case in &table.cases {
            for difference in differences(&table, case) {
                wrong.push(format!("{} {}: {difference}", table.name, case.rule));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// The ids in the source: capitals, a dash, digits, in quotes.
fn rules_in(folder: &Path, rules: &mut BTreeSet<String>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            rules_in(&path, rules);
            continue;
        }
        let text = fs::read_to_string(&path).unwrap();
        rules.extend(
            text.split('"')
                .filter(|word| {
                    word.split_once('-').is_some_and(|(kind, number)| {
                        kind.len() == 2 + usize::from(kind == "META") * 2
                            && kind.bytes().all(|byte| byte.is_ascii_uppercase())
                            && number.len() >= 2
                            && number.bytes().all(|byte| byte.is_ascii_digit())
                    })
                })
                .map(str::to_owned),
        );
    }
}

#[test]
fn every_rule_has_a_document_that_passes_and_one_that_fails() {
    let mut rules = BTreeSet::new();
    rules_in(
        &Path::new(env!("CARGO_MANIFEST_DIR")).join("src/validation"),
        &mut rules,
    );
    assert!(rules.len() > 300, "only {} rules", rules.len());
    let (mut good, mut bad) = (BTreeSet::new(), BTreeSet::new());
    let mut documents = 0;
    for case in tables().into_iter().flat_map(|table| table.cases) {
        documents += case.good.len() + case.bad.len();
        if !case.good.is_empty() {
            good.insert(case.rule.clone());
        }
        if !case.bad.is_empty() {
            bad.insert(case.rule);
        }
    }
    println!("{} rules, {documents} documents", rules.len());
    let lacking: Vec<_> = rules.difference(&good).collect();
    assert!(lacking.is_empty(), "no document passes {lacking:?}");
    let lacking: Vec<_> = rules.difference(&bad).collect();
    assert!(lacking.is_empty(), "no document fails {lacking:?}");
    let unknown: Vec<_> = good
        .union(&bad)
        .filter(|rule| !rules.contains(*rule))
        .collect();
    assert!(unknown.is_empty(), "no such rules: {unknown:?}");
}

#[test]
fn a_body_that_is_no_message_of_the_kind_is_a_problem() {
    for collection in COLLECTIONS {
        let object = Object {
            meta: Meta {
                name: "default".into(),
                namespace: "ns".into(),
                ..Meta::default()
            },
            collection,
            body: vec![0xff; 3].into(),
        };
        let problems = validate(&object);
        let decode = problems.iter().find(|problem| problem.rule == "DECODE");
        let decode = decode.unwrap_or_else(|| panic!("{}: {problems:?}", collection.kind));
        assert_eq!(decode.path, "spec");
        assert!(decode.message.contains(collection.message));
        assert_eq!(decode.severity, Severity::Error);
    }
}

#[test]
fn many_problems_are_cut() {
    let collection = by_gvk("networking.istio.io", "Sidecar").unwrap();
    let hosts: Vec<String> = (0..1000).map(|i| format!("a{i}.com")).collect();
    let spec = serde_json::json!({"egress": [{"hosts": hosts}]});
    let mode = istio_api::json::Unknown::Refuse;
    let (body, _) = istio_api::json::read_dynamic(collection.message, &spec, mode).unwrap();
    let problems = validate(&Object {
        meta: Meta::default(),
        collection,
        body: body.into(),
    });
    assert_eq!(problems.len(), 101);
    assert_eq!(problems[0].path, "spec.egress[0].hosts[0]");
    assert_eq!(problems[99].path, "spec.egress[0].hosts[99]");
    assert_eq!(problems[100].message, "900 more problems are not listed");
    assert_eq!(problems[100].severity, Severity::Error);
}

/// Time must not grow with the square of a document: no single object may stop the webhook.
#[test]
fn large_documents_are_quick() {
    let many = 20_000;
    let route = serde_json::json!([{"destination": {"host": "a"}}]);
    let hosts: Vec<String> = (0..many).map(|i| format!("*.a{i}.com")).collect();
    let matches: Vec<_> = (0..many)
        .map(|_| serde_json::json!({"uri": {"prefix": "/"}}))
        .collect();
    let prefixes: Vec<_> = (0..many)
        .map(|i| serde_json::json!({"port": i + 1, "uri": {"prefix": if i % 2 == 0 { "/" } else { "/a" }}}))
        .collect();
    let long = "/".repeat(500_000);
    let specs = [
        (
            "VirtualService",
            serde_json::json!({"hosts": hosts, "http": [{"route": route}]}),
        ),
        (
            "VirtualService",
            serde_json::json!({"hosts": ["a"], "http": [{"match": matches, "route": route}]}),
        ),
        (
            "VirtualService",
            serde_json::json!({"hosts": ["a"], "http": [{"match": prefixes, "route": route}]}),
        ),
        (
            "VirtualService",
            serde_json::json!({"hosts": ["a"], "http": [{"match": [{"uri": {"prefix": long}}], "route": route}]}),
        ),
        (
            "ServiceEntry",
            serde_json::json!({"hosts": hosts, "exportTo": hosts, "resolution": "DNS"}),
        ),
        ("Sidecar", serde_json::json!({"egress": [{"hosts": hosts}]})),
        (
            "EnvoyFilter",
            serde_json::json!({"configPatches": [{"match": {"proxy": {"proxyVersion": "[[:".repeat(100_000)}}}]}),
        ),
    ];
    let start = std::time::Instant::now();
    for (kind, spec) in specs {
        let collection = by_gvk("networking.istio.io", kind).unwrap();
        let mode = istio_api::json::Unknown::Refuse;
        let (body, _) = istio_api::json::read_dynamic(collection.message, &spec, mode).unwrap();
        let problems = validate(&Object {
            meta: Meta::default(),
            collection,
            body: body.into(),
        });
        assert!(problems.len() <= 101);
        assert!(
            problems
                .iter()
                .all(|problem| problem.message.len() < 1000 && problem.path.len() < 1000)
        );
        let time = start.elapsed();
        assert!(time.as_secs() < 30, "{kind} after {time:?}");
    }
}
