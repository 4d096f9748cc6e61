//! CustomResourceDefinitions of the kinds, made from the descriptors.
//!
//! ```text
//! collections ─► names, versions, scope ─┐
//! columns     ─► printer columns ────────┤
//! descriptor  ─► schema ◄─ limits        ├─► definition(collection) ─► JSON
//!                   ▲  └─ description    │
//!                status ─────────────────┘
//! ```
//!
//! A kind's schema is the same in all of its versions, so nothing is ever converted.

mod columns;
mod limits;
mod schema;
mod status;

use serde_json::{Value, json};

use istio_api::collections::{Collection, Scope};
use istio_api::descriptor;

/// Groups whose kinds only 1.1 had. Their schema accepts everything in `spec`: a null member has
/// a meaning there, and an API server would drop it otherwise.
const LEGACY_GROUPS: &[&str] = &[
    "authentication.istio.io",
    "config.istio.io",
    "rbac.istio.io",
];

/// The CustomResourceDefinition (`apiextensions.k8s.io/v1`) of a kind, as JSON.
#[must_use]
pub fn definition(collection: &Collection) -> Value {
    let scope = match collection.scope {
        Scope::Namespaced => "Namespaced",
        Scope::Cluster => "Cluster",
    };
    let mut names = json!({
        "categories": columns::categories(collection.group),
        "kind": collection.kind,
        "listKind": format!("{}List", collection.kind),
        "plural": collection.plural,
        "singular": collection.kind.to_lowercase(),
    });
    if !collection.short_names.is_empty()
        && let Some(names) = names.as_object_mut()
    {
        names.insert("shortNames".to_owned(), json!(collection.short_names));
    }
    let mut labels = json!({"app.kubernetes.io/part-of": "istio"});
    if let Some(label) = columns::label(collection.group)
        && let Some(labels) = labels.as_object_mut()
    {
        labels.insert("istio".to_owned(), json!(label));
    }
    let mut versions: Vec<&str> = collection.versions.to_vec();
    let stored = versions.first().copied().unwrap_or_default();
    versions.sort_unstable();
    let versions: Vec<Value> = versions
        .into_iter()
        .map(|name| version(collection, name, name == stored))
        .collect();
    json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinition",
        "metadata": {
            "annotations": {"helm.sh/resource-policy": "keep"},
            "labels": labels,
            "name": format!("{}.{}", collection.plural, collection.group),
        },
        "spec": {
            "group": collection.group,
            "names": names,
            "scope": scope,
            "versions": versions,
        },
    })
}

/// The structural schema of a kind's objects: `spec` and `status`.
#[must_use]
pub fn object_schema(collection: &Collection) -> Value {
    let spec = if LEGACY_GROUPS.contains(&collection.group) {
        json!({"type": "object", "x-kubernetes-preserve-unknown-fields": true})
    } else {
        descriptor::message(collection.message)
            .map_or(Value::Null, |message| schema::of_root(&message))
    };
    let mut object = json!({
        "type": "object",
        "properties": {"spec": spec, "status": status::schema()},
    });
    // Where a member of `spec` is required, an object without `spec` must not get around it.
    if limits::SPEC_REQUIRED.contains(&collection.message)
        && let Some(object) = object.as_object_mut()
    {
        object.insert("required".to_owned(), json!(["spec"]));
    }
    object
}

fn version(collection: &Collection, name: &str, stored: bool) -> Value {
    let mut version = json!({
        "name": name,
        "schema": {"openAPIV3Schema": object_schema(collection)},
        "served": true,
        "storage": stored,
        "subresources": {"status": {}},
    });
    let columns = columns::of(collection.kind);
    if !columns.is_empty()
        && let Some(version) = version.as_object_mut()
    {
        version.insert("additionalPrinterColumns".to_owned(), Value::Array(columns));
    }
    version
}
