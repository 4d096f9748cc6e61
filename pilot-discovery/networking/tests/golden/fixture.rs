//! Reads a scenario into a snapshot and a proxy.

use std::{path::Path, sync::Arc};

use istio_api::{
    collections::{self, Collection},
    envoy::config::core::v3::Node,
    json::{self, Unknown},
    mesh::v1alpha1::MeshConfig,
    object::{Meta, Object},
};
use pilot_model::{
    builder::Builder, changes::Changes, credential::Credential, key::ObjectKey, mesh::Mesh,
    proxy::Proxy, snapshot::Snapshot,
};
use serde::Deserialize;
use serde_json::Value;

#[derive(Debug)]
pub(crate) struct Fixture {
    pub(crate) snapshot: Arc<Snapshot>,
    pub(crate) proxy: Proxy,
}

impl Fixture {
    pub(crate) fn load(scenario: &Path) -> Self {
        let text = |name: &str| {
            let path = scenario.join(name);
            std::fs::read_to_string(&path)
                .unwrap_or_else(|error| panic!("{}: {error}", path.display()))
        };
        Self::parse(&text("input.yaml"), &text("proxy.yaml"), scenario)
    }

    /// Reads objects and a node that stand in a test.
    pub(crate) fn inline(input: &str, proxy: &str) -> Self {
        Self::parse(input, proxy, Path::new("inline"))
    }

    fn parse(input: &str, proxy: &str, scenario: &Path) -> Self {
        let input = documents(input, scenario);
        let mesh = input
            .iter()
            .find(|document| document["kind"] == "MeshConfig")
            .map_or_else(MeshConfig::default, |document| {
                read(&document["spec"], scenario)
            });
        let mut builder = Builder::new(Mesh::new(mesh, "cluster.local"));
        for (at, document) in input.iter().enumerate() {
            match document["kind"].as_str() {
                Some("MeshConfig") => {}
                Some("Secret") => credential(&mut builder, document),
                _ => object(&mut builder, document, at, scenario),
            }
        }
        let (snapshot, _) = builder.publish();
        let proxy = node(proxy, scenario);
        Self { snapshot, proxy }
    }
}

/// The proxy that a node in a test describes.
pub(crate) fn proxy(text: &str) -> Proxy {
    node(text, Path::new("inline"))
}

fn node(text: &str, scenario: &Path) -> Proxy {
    let node: Node = read(&documents(text, scenario)[0], scenario);
    Proxy::parse(Some(&node)).unwrap_or_else(|error| panic!("{}: {error}", scenario.display()))
}

/// Objects that come and go.
#[derive(Debug)]
pub(crate) struct World(Builder);

impl Default for World {
    fn default() -> Self {
        let mesh = Mesh::new(MeshConfig::default(), "cluster.local");
        Self(Builder::new(mesh))
    }
}

impl World {
    pub(crate) fn put(&mut self, text: &str) {
        let scenario = Path::new("inline");
        for document in documents(text, scenario) {
            object(&mut self.0, &document, 0, scenario);
        }
    }

    pub(crate) fn remove(&mut self, text: &str) {
        for document in documents(text, Path::new("inline")) {
            let metadata = &document["metadata"];
            let text = |name: &str| metadata[name].as_str().unwrap_or_default();
            let key = ObjectKey::new(text("namespace"), text("name"));
            self.0
                .apply(&collections::SYNTHETIC_SERVICE_ENTRIES, &key, None)
                .expect("a removal cannot be wrong");
        }
    }

    pub(crate) fn publish(&mut self) -> (Arc<Snapshot>, Changes) {
        self.0.publish()
    }
}

fn documents(text: &str, scenario: &Path) -> Vec<Value> {
    serde_yaml::Deserializer::from_str(text)
        .map(|document| {
            Value::deserialize(document)
                .unwrap_or_else(|error| panic!("{}: {error}", scenario.display()))
        })
        .filter(|document| !document.is_null())
        .collect()
}

fn read<T: prost::Message + prost::Name + Default>(value: &Value, scenario: &Path) -> T {
    let (message, _) = json::read(value, Unknown::Refuse)
        .unwrap_or_else(|issues| panic!("{}: {value}: {issues:?}", scenario.display()));
    message
}

fn object(builder: &mut Builder, document: &Value, at: usize, scenario: &Path) {
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let kind = text(&document["kind"]);
    let group = text(&document["apiVersion"]);
    let group = group.split('/').next().unwrap_or_default();
    let collection: &'static Collection = if kind == "SyntheticServiceEntry" {
        &collections::SYNTHETIC_SERVICE_ENTRIES
    } else {
        collections::by_gvk(group, &kind)
            .unwrap_or_else(|| panic!("{}: unknown kind {group} {kind}", scenario.display()))
    };
    let (body, _) = json::read_dynamic(collection.message, &document["spec"], Unknown::Refuse)
        .unwrap_or_else(|issues| panic!("{}: {kind} {issues:?}", scenario.display()));
    let metadata = &document["metadata"];
    let pairs = |value: &Value| {
        let map = value.as_object().into_iter().flatten();
        map.map(|(key, value)| (key.clone(), text(value))).collect()
    };
    let meta = Meta {
        namespace: text(&metadata["namespace"]),
        name: text(&metadata["name"]),
        resource_version: "1".to_owned(),
        // The order in the file is the order of age.
        creation_timestamp: Some(prost_types::Timestamp {
            seconds: 1_000_000 + i64::try_from(at).expect("few documents"),
            nanos: 0,
        }),
        labels: pairs(&metadata["labels"]),
        annotations: pairs(&metadata["annotations"]),
    };
    let key = ObjectKey::new(&meta.namespace, &meta.name);
    builder
        .apply(
            collection,
            &key,
            Some(Object {
                meta,
                collection,
                body: body.into(),
            }),
        )
        .unwrap_or_else(|error| panic!("{}: {error}", scenario.display()));
}

fn credential(builder: &mut Builder, document: &Value) {
    let metadata = &document["metadata"];
    let key = ObjectKey::new(
        metadata["namespace"].as_str().unwrap_or_default(),
        metadata["name"].as_str().unwrap_or_default(),
    );
    let data = |name: &str| {
        let text = document["stringData"][name].as_str().unwrap_or_default();
        bytes::Bytes::copy_from_slice(text.as_bytes())
    };
    let credential = Credential {
        certificate: data("tls.crt"),
        key: data("tls.key"),
        ca: data("ca.crt"),
        crl: data("ca.crl"),
        staple: data("tls.ocsp-staple"),
        version: 1,
        fault: None,
    };
    builder.set_credential(&key, Some(credential));
}
