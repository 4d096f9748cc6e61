//! What the builder says of itself between two snapshots.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails fails its test"
)]

use istio_api::{
    collections::{Collection, SYNTHETIC_SERVICE_ENTRIES, by_gvk},
    json::{self, Unknown},
    mesh::v1alpha1::MeshConfig,
    object::{Meta, Object},
};
use pilot_model::{builder::Builder, changes::Changes, host::Host, key::ObjectKey, mesh::Mesh};
use serde_json::{Value, json};

struct World(Builder);

impl World {
    fn new() -> Self {
        let mut builder = Builder::new(Mesh::default());
        builder.publish();
        Self(builder)
    }

    /// Puts the service `a/web`, or removes it when `spec` is null.
    fn put(&mut self, version: &str, spec: &Value) {
        self.put_into(&SYNTHETIC_SERVICE_ENTRIES, "web", version, spec);
    }

    fn put_into(
        &mut self,
        collection: &'static Collection,
        name: &str,
        version: &str,
        spec: &Value,
    ) {
        let key = ObjectKey::new("a", name);
        let object = (!spec.is_null()).then(|| Object {
            meta: Meta {
                namespace: "a".to_owned(),
                name: name.to_owned(),
                resource_version: version.to_owned(),
                ..Meta::default()
            },
            collection,
            body: json::read_dynamic(collection.message, spec, Unknown::Refuse)
                .expect("valid")
                .0
                .into(),
        });
        self.0.apply(collection, &key, object).expect("taken");
    }

    fn publish(&mut self) -> Changes {
        self.0.publish().1
    }
}

fn service(port: u32, address: &str) -> Value {
    json!({
        "hosts": ["web.a.svc.cluster.local"],
        "addresses": ["10.96.0.1"],
        "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
        "resolution": "STATIC",
        "endpoints": [{"address": address, "ports": {"http": 8080}}],
    })
}

#[test]
fn a_start_changes_everything_once() {
    let mut builder = Builder::new(Mesh::default());
    assert!(builder.is_dirty() && !builder.is_endpoints_only());
    assert!(builder.publish().1.everything);
    assert!(!builder.is_dirty());
    let (snapshot, changes) = builder.publish();
    assert!(changes.is_empty());
    assert_eq!(snapshot.version, 2);
}

#[test]
fn an_object_that_stays_as_it_is_changes_nothing() {
    let mut world = World::new();
    world.put("1", &Value::Null);
    assert!(!world.0.is_dirty(), "it was not there");
    world.put("1", &service(80, "10.0.0.1"));
    assert!(world.0.is_dirty() && !world.0.is_endpoints_only());
    let changes = world.publish();
    let host = Host::new("web.a.svc.cluster.local");
    assert!(changes.services.contains(&host));
    world.put("1", &service(80, "10.0.0.1"));
    assert!(!world.0.is_dirty());
}

#[test]
fn an_endpoint_that_changes_changes_endpoints_only() {
    let mut world = World::new();
    world.put("1", &service(80, "10.0.0.1"));
    world.publish();
    world.put("2", &service(80, "10.0.0.2"));
    assert!(world.0.is_dirty() && world.0.is_endpoints_only());
    let changes = world.publish();
    let addresses = ["10.0.0.1".into(), "10.0.0.2".into()];
    assert!(changes.services.is_empty() && changes.addresses == addresses.into());
    world.put("3", &service(81, "10.0.0.2"));
    assert!(!world.0.is_endpoints_only());
}

/// Clients dial such endpoints themselves, so listeners depend on them.
#[test]
fn endpoints_that_clients_dial_change_the_service() {
    let mut world = World::new();
    let headless = |address: &str| {
        let mut spec = service(80, address);
        spec["resolution"] = json!("NONE");
        spec["addresses"] = json!([]);
        spec
    };
    world.put("1", &headless("10.0.0.1"));
    world.publish();
    world.put("2", &headless("10.0.0.2"));
    let changes = world.publish();
    assert!(changes.services == changes.endpoints && changes.services.len() == 1);
}

#[test]
fn what_the_mesh_looks_at_is_looked_at_while_it_says_so() {
    let setting = json!({"localityLbSetting": {"failoverPriority": ["team"]}});
    let (config, _) = json::read::<MeshConfig>(&setting, Unknown::Refuse).expect("valid");
    let mut builder = Builder::new(Mesh::new(config, "cluster.local"));
    assert!(builder.publish().0.lookup.clients.contains("team"));
    builder.set_mesh(Mesh::default());
    let (snapshot, changes) = builder.publish();
    assert!(changes.lookup && snapshot.lookup.clients.is_empty());
}

#[test]
fn objects_are_kept_by_collection() {
    let mut world = World::new();
    assert!(world.0.keys(&SYNTHETIC_SERVICE_ENTRIES).is_empty());
    world.put("1", &service(80, "10.0.0.1"));
    let key = ObjectKey::new("a", "web");
    assert_eq!(world.0.keys(&SYNTHETIC_SERVICE_ENTRIES), [key]);
    let gateways = by_gvk("networking.istio.io", "Gateway").unwrap();
    assert!(world.0.keys(gateways).is_empty());
    let versions = world.0.objects().map(|one| &*one.meta.resource_version);
    assert_eq!(versions.collect::<Vec<_>>(), ["1"]);
    world.put("1", &Value::Null);
    assert_eq!(world.0.objects().count(), 0);
    assert!(world.publish().services.len() == 1);
}

/// The versions are those of what users wrote.
#[test]
fn a_version_is_followed_from_the_object_to_the_snapshot() {
    let mut world = World::new();
    let entries = by_gvk("networking.istio.io", "ServiceEntry").unwrap();
    let mut versions = |version: &str, spec: &Value| {
        world.put_into(entries, "one", version, spec);
        let (snapshot, changes) = world.0.publish();
        let held = snapshot.configs.values().map(ToString::to_string);
        (held.collect::<Vec<String>>(), changes.versions)
    };
    let spec = service(80, "10.0.0.1");
    assert_eq!(versions("1", &spec), (vec!["1".to_owned()], true));
    assert_eq!(versions("1", &spec), (vec!["1".to_owned()], false));
    assert_eq!(versions("2", &spec), (vec!["2".to_owned()], true));
    assert_eq!(versions("", &Value::Null), (vec![], true));
    assert_eq!(versions("", &Value::Null), (vec![], false));
    world.put("1", &spec);
    assert!(!world.publish().versions, "nobody wrote it");
}

/// What both say counts once; the older one decides the rest.
#[test]
fn a_service_of_two_objects_has_the_parts_of_both() {
    let mut world = World::new();
    let entries = by_gvk("networking.istio.io", "ServiceEntry").unwrap();
    let spec = |address: &str, port: u32, san: &str, endpoint: &str| {
        json!({
            "hosts": ["ext.example.com"],
            "addresses": ["10.96.0.1", address],
            "ports": [
                {"number": 80, "name": "http", "protocol": "HTTP"},
                {"number": port, "name": "tcp", "protocol": "TCP"},
            ],
            "resolution": "STATIC",
            "subjectAltNames": ["both", san],
            "endpoints": [{"address": "10.0.0.1"}, {"address": endpoint}],
        })
    };
    world.put_into(
        entries,
        "one",
        "1",
        &spec("10.96.0.2", 90, "one", "10.0.0.2"),
    );
    world.put_into(
        entries,
        "two",
        "2",
        &spec("10.96.0.3", 91, "two", "10.0.0.3"),
    );
    let (snapshot, _) = world.0.publish();
    let services = snapshot
        .services
        .get(&Host::new("ext.example.com"))
        .unwrap();
    assert_eq!(services.len(), 1);
    let service = services.first().unwrap();
    let texts = |list: &[std::sync::Arc<str>]| -> Vec<String> {
        list.iter().map(ToString::to_string).collect()
    };
    assert_eq!(
        texts(&service.addresses),
        ["10.96.0.1", "10.96.0.2", "10.96.0.3"]
    );
    assert_eq!(texts(&service.subject_alt_names), ["both", "one", "two"]);
    let ports: Vec<u32> = service.ports.iter().map(|port| port.number).collect();
    assert_eq!(ports, [80, 90, 91]);
    let sources: Vec<String> = service
        .sources
        .iter()
        .map(|one| one.name.to_string())
        .collect();
    assert_eq!(sources, ["one", "two"]);
    let endpoints = snapshot.endpoints.get(&service.key).unwrap();
    let places: Vec<String> = endpoints
        .list
        .iter()
        .map(|one| format!("{} {}:{}", one.port_name, one.address, one.port))
        .collect();
    let sorted = [
        "http 10.0.0.1:80",
        "http 10.0.0.2:80",
        "http 10.0.0.3:80",
        "tcp 10.0.0.1:90",
        "tcp 10.0.0.1:91",
        "tcp 10.0.0.2:90",
        "tcp 10.0.0.3:91",
    ];
    assert_eq!(places, sorted);
}
