use istio_api::manifest::{FieldError, Key};
use mesh_core::yaml;
use prost::Message;

use super::*;

type Found = manifest::Found<Native>;

fn read_one(text: &str) -> Found {
    let value = yaml::read(&yaml::split(text)[0]).unwrap().unwrap();
    let mut found = manifest::read(&value);
    assert_eq!(found.len(), 1);
    found.remove(0).1
}

fn object(text: &str) -> (Key, Result<Item, Vec<FieldError>>, Vec<FieldError>) {
    match read_one(text) {
        Found::Object {
            key,
            item,
            warnings,
        } => (key, item.map(Item::from), warnings),
        other => panic!("{other:?}"),
    }
}

fn config<M: Message + Default>(text: &str) -> (McpMetadata, M, Vec<FieldError>) {
    let (_, item, warnings) = object(text);
    let Ok(Item::Config(config)) = item else {
        panic!("{item:?}")
    };
    let body = config.resource.body.as_ref().unwrap();
    let message = M::decode(body.value.as_slice()).unwrap();
    (config.resource.metadata.clone().unwrap(), message, warnings)
}

#[test]
fn metadata_is_carried() {
    let text = "\
apiVersion: networking.istio.io/v1
kind: Gateway
metadata:
  name: web
  labels: {team: red}
  annotations:
    note: hello
    kubectl.kubernetes.io/last-applied-configuration: '{}'
  creationTimestamp: 2026-01-02T03:04:05Z
spec:
  selector: {istio: ingressgateway}
status: {}
";
    let (metadata, gateway, warnings) = config::<istio_api::networking::v1alpha3::Gateway>(text);
    assert_eq!(metadata.name, "default/web");
    assert_eq!(metadata.labels["team"], "red");
    assert_eq!(metadata.annotations.len(), 1);
    assert_eq!(metadata.create_time.unwrap().seconds, 1_767_323_045);
    assert!(metadata.version.starts_with("f-"), "{}", metadata.version);
    assert_eq!(gateway.selector["istio"], "ingressgateway");
    assert_eq!(warnings, []);
    // Equal contents have equal versions in any form, different contents different ones.
    let json = serde_json::to_string(&yaml::read(&yaml::split(text)[0]).unwrap().unwrap()).unwrap();
    let other = text.replace("team: red", "team: blue");
    let (same, _, _) = config::<istio_api::networking::v1alpha3::Gateway>(&json);
    let (different, _, _) = config::<istio_api::networking::v1alpha3::Gateway>(&other);
    assert_eq!(same.version, metadata.version);
    assert_ne!(different.version, metadata.version);
}

#[test]
fn objects_of_the_cluster_have_no_namespace() {
    let text = "apiVersion: authentication.istio.io/v1alpha1\nkind: MeshPolicy\n\
                metadata: {name: default, namespace: x}\nspec:\n  peers:\n  - mtls:\n";
    let (metadata, policy, _) = config::<istio_api::authentication::v1alpha1::Policy>(text);
    assert_eq!(metadata.name, "default");
    // `mtls:` without a value counts as set.
    assert!(policy.peers[0].params.is_some());
}

#[test]
fn unknown_fields_are_warnings_with_their_path() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                metadata: {name: x}\nspek: 1\nspec:\n  hosts: [x]\n  http:\n  - matchh: 1\n";
    let (_, _, warnings) = config::<istio_api::networking::v1alpha3::VirtualService>(text);
    let paths: Vec<_> = warnings
        .iter()
        .map(|warning| warning.path.as_str())
        .collect();
    assert_eq!(paths, ["spek", "spec.http[0].matchh"]);
}

#[test]
fn wrong_types_are_all_errors_with_their_paths() {
    let text = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
                metadata: {name: x}\nspec:\n  hosts: x\n  http:\n  - timeout: 5 parsecs\n";
    let (key, item, _) = object(text);
    assert_eq!(key.to_string(), "VirtualService default/x");
    let mut paths: Vec<_> = item
        .unwrap_err()
        .into_iter()
        .map(|error| error.path)
        .collect();
    paths.sort();
    assert_eq!(paths, ["spec.hosts", "spec.http[0].timeout"]);
}

#[test]
fn boolean_words_are_booleans_in_boolean_fields_only() {
    let text = "apiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: x}\nspec:\n\
                \x20 servers:\n  - hosts: [yes]\n    tls: {httpsRedirect: yes}\n";
    let (_, gateway, _) = config::<istio_api::networking::v1alpha3::Gateway>(text);
    assert_eq!(gateway.servers[0].hosts, ["yes"]);
    assert!(gateway.servers[0].tls.as_ref().unwrap().https_redirect);
}

#[test]
fn an_empty_spec_is_an_empty_message() {
    for spec in ["", "spec:\n", "spec: {}\n"] {
        let text = format!(
            "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\nmetadata: {{name: x}}\n{spec}"
        );
        let (_, item, _) = object(&text);
        assert!(item.is_ok());
    }
    let text = "apiVersion: security.istio.io/v1\nkind: PeerAuthentication\n\
                metadata: {name: x}\nspec: [1]\n";
    assert_eq!(object(text).1.unwrap_err()[0].path, "spec");
}

#[test]
fn lists_are_taken_apart() {
    let item = |name: &str| {
        serde_json::json!({
            "apiVersion": "networking.istio.io/v1", "kind": "Sidecar", "metadata": {"name": name}
        })
    };
    let list = |kind: &str| serde_json::json!({"apiVersion": "v1", "kind": kind, "items": [item("a"), item("b")]});
    for kind in ["List", "SidecarList"] {
        let found = manifest::read::<Native>(&list(kind));
        let names: Vec<_> = found
            .iter()
            .map(|(path, found)| match found {
                Found::Object { key, .. } => (path.as_str(), key.to_string()),
                other => panic!("{other:?}"),
            })
            .collect();
        let wanted = [
            ("items[0]", "Sidecar default/a"),
            ("items[1]", "Sidecar default/b"),
        ];
        assert_eq!(names, wanted.map(|(path, name)| (path, name.to_owned())));
    }
}

#[test]
fn other_kinds_are_only_counted() {
    let found = read_one("apiVersion: apps/v1\nkind: Deployment\nmetadata: {name: x}\n");
    assert!(matches!(found, Found::Other(kind) if kind == "apps/v1 Deployment"));
    // Same kind name as Istio's, but in another group.
    let found =
        read_one("apiVersion: gateway.networking.k8s.io/v1\nkind: Gateway\nmetadata: {name: x}\n");
    assert!(matches!(found, Found::Other(_)));
}

#[test]
fn what_is_no_object_says_what_is_missing() {
    let cases = [
        ("- a\n", "", "found a list, want an object"),
        ("apiVersion: v1\n", "kind", "there is no kind"),
        ("kind: Service\n", "apiVersion", "there is no apiVersion"),
        (
            "apiVersion: v1\nkind: Service\n",
            "metadata.name",
            "no name",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {name: a/b}\n",
            "metadata.name",
            "not a valid name",
        ),
    ];
    for (text, path, message) in cases {
        let error = match read_one(text) {
            Found::Nothing { error, .. } => error,
            Found::Object { item, .. } => item.unwrap_err().remove(0),
            other => panic!("{other:?}"),
        };
        assert_eq!(error.path, path, "{text}");
        assert!(error.message.contains(message), "{text}: {error}");
    }
}

#[test]
fn a_wrong_field_of_a_service_is_named() {
    let text = "apiVersion: v1\nkind: Service\nmetadata: {name: a}\nspec:\n  ports:\n\
                \x20 - port: 80\n  - port: 99999\n";
    let (_, item, _) = object(text);
    let error = item.unwrap_err().remove(0);
    assert_eq!(error.path, "spec.ports[1].port");
    assert!(error.message.contains("99999"), "{error}");
}
