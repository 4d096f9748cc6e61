//! Conversion by tables: objects that only 1.1 had, and exactly the objects and complaints that
//! they become.
//!
//! A table (`conversion/*.yaml`) has services and cases. The earlier an object is in a case's
//! `input`, the older it is. Each of `output` gives kind, `namespace/name`, what it was made
//! `from`, the spec, and `tried` if it is a dry run; each of `complaints` is the start of one.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

#[path = "conversion/random.rs"]
mod random;

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use istio_api::json::{self, Unknown};
use istio_api::object::{Meta, Object};
use istio_api::well_known::annotations::DRY_RUN;
use istio_api::{collections, networking};
use istio_rules::conversion::{
    CONVERTED_FROM, Converted, Mesh, Port, Service, envoy_filter, policy, rbac,
};
use istio_rules::validation::{Severity, validate};
use prost_types::Timestamp;
use serde::Deserialize;
use serde_json::Value;

const MESH: Mesh<'static> = Mesh {
    root_namespace: "istio-system",
    domain: "cluster.local",
};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Table {
    #[serde(skip)]
    name: String,
    #[serde(default)]
    services: BTreeMap<String, Facts>,
    cases: Vec<Case>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Facts {
    #[serde(default)]
    selector: BTreeMap<String, String>,
    ports: Vec<PortFacts>,
    #[serde(default)]
    accounts: BTreeSet<String>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PortFacts {
    name: String,
    number: u32,
    targets: BTreeSet<u32>,
    #[serde(default)]
    raw: bool,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Case {
    name: String,
    input: Vec<Value>,
    #[serde(default)]
    output: Vec<Expected>,
    #[serde(default)]
    complaints: Vec<String>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Expected {
    kind: String,
    name: String,
    from: String,
    #[serde(default)]
    tried: bool,
    #[serde(default)]
    conditions: Option<String>,
    spec: Value,
}

fn tables() -> Vec<Table> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/conversion");
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

/// The services of a table; its keys are `namespace/name`.
fn services(table: &Table) -> Vec<Service> {
    let services = table.services.iter().map(|(key, facts)| {
        let (namespace, name) = key.split_once('/').unwrap();
        Service {
            host: format!("{name}.{namespace}.svc.cluster.local"),
            name: name.to_owned(),
            namespace: namespace.to_owned(),
            selector: facts.selector.clone(),
            ports: facts.ports.iter().map(port).collect(),
            accounts: facts.accounts.clone(),
        }
    });
    services.collect()
}

fn port(facts: &PortFacts) -> Port {
    Port {
        name: facts.name.clone(),
        number: facts.number,
        targets: facts.targets.clone(),
        http: !facts.raw,
    }
}

/// The objects of a case, each one second younger than the one before.
fn objects(case: &Case) -> Vec<Object> {
    let documents = case.input.iter().zip(1_000..);
    let objects = documents.map(|(document, seconds)| {
        let text = |at: &str| document.pointer(at).and_then(Value::as_str).unwrap_or("");
        let group = text("/apiVersion").split('/').next().unwrap();
        let collection = collections::by_gvk(group, text("/kind"))
            .unwrap_or_else(|| panic!("{}: {document} is not of a known kind", case.name));
        let (body, _) =
            json::read_dynamic(collection.message, &document["spec"], Unknown::Refuse).unwrap();
        Object {
            meta: Meta {
                namespace: text("/metadata/namespace").to_owned(),
                name: text("/metadata/name").to_owned(),
                resource_version: seconds.to_string(),
                creation_timestamp: Some(Timestamp { seconds, nanos: 0 }),
                ..Meta::default()
            },
            collection,
            body: body.into(),
        }
    });
    objects.collect()
}

/// All conversions at once.
fn convert(objects: &[Object], services: &[Service]) -> Converted {
    let mut converted = policy::convert(objects, services, &MESH);
    let more = rbac::convert(objects, services, &MESH);
    converted.objects.extend(more.objects);
    converted.complaints.extend(more.complaints);
    let filters = objects
        .iter()
        .filter(|one| one.collection.kind == "EnvoyFilter");
    let mut filters: Vec<&Object> = filters.collect();
    filters.sort_by_key(|filter| filter.meta.full_name());
    for filter in filters {
        let more = envoy_filter::convert(filter);
        converted.objects.extend(more.objects);
        converted.complaints.extend(more.complaints);
    }
    converted
}

fn shown(object: &Object) -> Expected {
    let annotation = |name: &str| object.meta.annotations.get(name).cloned();
    Expected {
        kind: object.collection.kind.to_owned(),
        name: object.meta.full_name(),
        from: annotation(CONVERTED_FROM).unwrap_or_default(),
        tried: annotation(DRY_RUN).is_some_and(|value| value == "true"),
        conditions: annotation(envoy_filter::CONDITIONS),
        spec: json::write(object.collection.message, &object.body).unwrap(),
    }
}

/// The document as it is written when nothing is lost: defaults left out, members in order.
fn canonical(expected: Expected) -> Expected {
    let rows = collections::COLLECTIONS.iter();
    let collection = rows
        .filter(|row| row.kind == expected.kind)
        .find(|row| row.group != "config.istio.io")
        .unwrap();
    let (body, _) =
        json::read_dynamic(collection.message, &expected.spec, Unknown::Refuse).unwrap();
    Expected {
        spec: json::write(collection.message, &body).unwrap(),
        ..expected
    }
}

#[test]
fn objects_and_complaints_are_as_the_tables_say() {
    let mut wrong = Vec::new();
    for table in tables() {
        let services = services(&table);
        for case in table.cases {
            let title = format!("{} {:?}", table.name, case.name);
            let converted = convert(&objects(&case), &services);
            let found: Vec<Expected> = converted.objects.iter().map(shown).collect();
            let wanted: Vec<Expected> = case.output.into_iter().map(canonical).collect();
            if found != wanted {
                wrong.push(format!("{title}: {found:#?} instead of {wanted:#?}"));
            }
            let told = converted.complaints.iter().map(ToString::to_string);
            let told: Vec<String> = told.collect();
            let same = told.len() == case.complaints.len()
                && told
                    .iter()
                    .zip(&case.complaints)
                    .all(|(told, start)| told.starts_with(start));
            if !same {
                wrong.push(format!(
                    "{title}: {told:#?} instead of {:#?}",
                    case.complaints
                ));
            }
        }
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// What must hold of every result.
fn is_sound(converted: &Converted) -> Result<(), String> {
    let mut names = BTreeSet::new();
    for object in &converted.objects {
        let refused = validate(object)
            .into_iter()
            .find(|problem| problem.severity == Severity::Error);
        if let Some(problem) = refused {
            return Err(format!("{}: {problem:?}", object.meta.full_name()));
        }
        let name = (object.collection.kind, object.meta.full_name());
        if !names.insert(name) {
            return Err(format!("{} occurs twice", object.meta.full_name()));
        }
        let is_marked = object.meta.annotations.contains_key(CONVERTED_FROM);
        if object.collection.kind != "EnvoyFilter" && !(is_marked && object.meta.name.contains('~'))
        {
            return Err(format!("{} could be a user's", object.meta.full_name()));
        }
    }
    Ok(())
}

#[test]
fn a_body_that_cannot_be_read_is_told() {
    let mut objects = Vec::new();
    for (group, kind) in [
        ("authentication.istio.io", "MeshPolicy"),
        ("networking.istio.io", "EnvoyFilter"),
        ("rbac.istio.io", "ClusterRbacConfig"),
    ] {
        objects.push(Object {
            meta: Meta {
                name: "default".to_owned(),
                ..Meta::default()
            },
            collection: collections::by_gvk(group, kind).unwrap(),
            body: vec![0xff].into(),
        });
    }
    let converted = convert(&objects, &[]);
    assert_eq!(converted.objects, []);
    let told = converted
        .complaints
        .iter()
        .map(|one| (one.kind, one.path.as_str()));
    assert_eq!(
        told.collect::<Vec<_>>(),
        [
            ("MeshPolicy", "spec"),
            ("ClusterRbacConfig", "spec"),
            ("EnvoyFilter", "spec")
        ]
    );
}

#[test]
fn conditions_of_listeners_are_read_again() {
    let table = tables()
        .into_iter()
        .find(|table| table.name == "envoy_filter")
        .unwrap();
    let mut read = 0;
    for case in &table.cases {
        for object in convert(&objects(case), &[]).objects {
            let conditions = envoy_filter::conditions(&object).unwrap();
            let spec: networking::v1alpha3::EnvoyFilter = object.decode().unwrap();
            assert!(
                conditions
                    .keys()
                    .all(|index| *index < spec.config_patches.len())
            );
            read += conditions.len();
        }
    }
    assert!(read > 2, "{read}");
}
