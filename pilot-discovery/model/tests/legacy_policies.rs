//! Policy and MeshPolicy of 1.1 beside PeerAuthentication, and what follows a changed Service.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a helper that fails fails its test"
)]

use std::sync::Arc;

use istio_api::{
    collections,
    json::{self, Unknown},
    mesh::v1alpha1::MeshConfig,
    object::{Meta, Object},
};
use pilot_model::{
    authn::{MtlsMode, WorkloadMtls},
    builder::Builder,
    changes::Changes,
    config::Labels,
    key::ObjectKey,
    mesh::Mesh,
    snapshot::Snapshot,
};
use serde_json::{Value, json};

struct World {
    builder: Builder,
    snapshot: Arc<Snapshot>,
}

impl World {
    fn new() -> Self {
        let mut builder = Builder::new(Mesh::default());
        let (snapshot, _) = builder.publish();
        Self { builder, snapshot }
    }

    /// Puts an object, or removes it when `spec` is null; `name` is `namespace/name`.
    fn put(&mut self, kind: &str, name: &str, age: i64, spec: &Value) {
        let group = match kind {
            "PeerAuthentication" => "security.istio.io",
            _ => "authentication.istio.io",
        };
        let collection = match kind {
            "Service" => &collections::SYNTHETIC_SERVICE_ENTRIES,
            _ => collections::by_gvk(group, kind).expect("known"),
        };
        let (namespace, name) = name.split_once('/').unwrap_or(("", name));
        let object = (!spec.is_null()).then(|| Object {
            meta: Meta {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                resource_version: "1".to_owned(),
                creation_timestamp: Some(prost_types::Timestamp {
                    seconds: 1_000 - age,
                    nanos: 0,
                }),
                ..Meta::default()
            },
            collection,
            body: json::read_dynamic(collection.message, spec, Unknown::Refuse)
                .expect("valid")
                .0
                .into(),
        });
        self.builder
            .apply(collection, &ObjectKey::new(namespace, name), object)
            .expect("taken");
    }

    fn publish(&mut self) -> Changes {
        let (snapshot, changes) = self.builder.publish();
        self.snapshot = snapshot;
        changes
    }

    fn mtls(&self, namespace: &str, app: &str) -> WorkloadMtls {
        let labels: Labels = [("app".to_owned(), app.to_owned())].into();
        let root = &self.snapshot.mesh.root_namespace;
        self.snapshot
            .peer_authentications
            .for_workload(namespace, &labels, root)
    }

    fn complaints(&self) -> Vec<String> {
        let complaints = self.snapshot.unconverted.values();
        complaints
            .flat_map(|list| list.iter().map(ToString::to_string))
            .collect()
    }
}

fn strict() -> Value {
    json!({"peers": [{"mtls": {}}]})
}

fn peer(mode: &str) -> Value {
    json!({"mtls": {"mode": mode}})
}

fn of_workload(app: &str, mode: &str) -> Value {
    json!({"selector": {"matchLabels": {"app": app}}, "mtls": {"mode": mode}})
}

fn target(name: &str, ports: &[u32]) -> Value {
    let ports: Vec<Value> = ports.iter().map(|port| json!({"number": port})).collect();
    json!({"targets": [{"name": name, "ports": ports}], "peers": [{"mtls": {}}]})
}

/// A service of `foo` whose workloads have label `app: <name>`; target port 0 has a name.
fn service(name: &str, app: &str, target: u32, endpoints: &[(&str, u32)]) -> Value {
    let endpoints: Vec<Value> = endpoints
        .iter()
        .map(|(ip, port)| json!({"address": ip, "ports": {"http": port}, "labels": {"app": app}}))
        .collect();
    json!({
        "hosts": [format!("{name}.foo.svc.cluster.local")],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "ports": [{"name": "http", "number": 80, "protocol": "HTTP", "targetPort": target}],
        "workloadSelector": {"labels": {"app": app}},
        "endpoints": endpoints,
    })
}

#[test]
fn without_any_policy_both_are_taken() {
    assert_eq!(World::new().mtls("foo", "web"), WorkloadMtls::default());
    assert_eq!(WorkloadMtls::default().default, MtlsMode::Permissive);
}

#[test]
fn a_policy_of_today_wins_in_its_scope_however_young() {
    let mut world = World::new();
    world.put("MeshPolicy", "default", 9, &strict());
    let changes = world.publish();
    assert!(changes.policies.contains("istio-system"));
    assert_eq!(world.mtls("foo", "web").default, MtlsMode::Strict);

    world.put("Policy", "foo/default", 9, &json!({}));
    let changes = world.publish();
    assert_eq!(changes.policies, [Arc::from("foo")].into());
    assert_eq!(world.mtls("foo", "web").default, MtlsMode::Disable);
    assert_eq!(world.mtls("bar", "web").default, MtlsMode::Strict);
    let policies = &world.snapshot.peer_authentications;
    assert!(policies.may_disable("foo", "istio-system"));
    assert!(!policies.may_disable("bar", "istio-system"));

    world.put(
        "PeerAuthentication",
        "istio-system/a",
        0,
        &peer("PERMISSIVE"),
    );
    world.publish();
    assert_eq!(world.mtls("bar", "web").default, MtlsMode::Permissive);
    assert_eq!(world.mtls("foo", "web").default, MtlsMode::Disable);
    world.put("PeerAuthentication", "foo/a", 0, &peer("STRICT"));
    world.publish();
    assert_eq!(world.mtls("foo", "web").default, MtlsMode::Strict);

    for (kind, name) in [
        ("PeerAuthentication", "foo/a"),
        ("PeerAuthentication", "istio-system/a"),
        ("Policy", "foo/default"),
    ] {
        world.put(kind, name, 0, &Value::Null);
    }
    world.publish();
    assert_eq!(world.mtls("foo", "web").default, MtlsMode::Strict);
    world.put("MeshPolicy", "default", 0, &Value::Null);
    world.publish();
    assert_eq!(world.mtls("foo", "web"), WorkloadMtls::default());
    assert_eq!(world.builder.converted().count(), 0);
}

#[test]
fn a_target_is_followed_to_the_ports_of_its_workloads() {
    let mut world = World::new();
    world.put("Policy", "foo/web", 0, &target("web", &[80]));
    world.put(
        "Service",
        "foo/other",
        0,
        &service("other", "other", 1, &[]),
    );
    world.publish();
    assert_eq!(world.mtls("foo", "web"), WorkloadMtls::default());
    assert!(world.complaints()[0].contains("there is no service web.foo.svc.cluster.local"));

    world.put("Service", "foo/web", 0, &service("web", "web", 8080, &[]));
    let changes = world.publish();
    assert_eq!(changes.policies, [Arc::from("foo")].into());
    assert!(changes.unconverted && changes.lookup);
    assert!(world.snapshot.lookup.workloads.contains("app"));
    assert_eq!(world.complaints(), Vec::<String>::new());
    let mtls = world.mtls("foo", "web");
    assert_eq!(mtls.ports, [(8080, MtlsMode::Strict)]);
    assert_eq!(mtls.default, MtlsMode::Permissive);
    assert_eq!(
        mtls.sources[0].to_string(),
        "PeerAuthentication foo/service~web"
    );
    assert_eq!(world.mtls("foo", "other"), WorkloadMtls::default());

    // Its ports, then its selector.
    world.put("Service", "foo/web", 0, &service("web", "web", 9090, &[]));
    assert_eq!(world.publish().policies, [Arc::from("foo")].into());
    assert_eq!(world.mtls("foo", "web").ports, [(9090, MtlsMode::Strict)]);
    world.put("Service", "foo/web", 0, &service("web", "new", 9090, &[]));
    world.publish();
    assert_eq!(world.mtls("foo", "web"), WorkloadMtls::default());
    assert_eq!(world.mtls("foo", "new").ports, [(9090, MtlsMode::Strict)]);

    // Others and endpoints at known ports change nothing.
    world.put(
        "Service",
        "foo/other",
        0,
        &service("other", "other", 2, &[]),
    );
    let endpoints = [("10.0.0.1", 9090)];
    world.put(
        "Service",
        "foo/web",
        0,
        &service("web", "new", 9090, &endpoints),
    );
    let changes = world.publish();
    assert!(
        changes.policies.is_empty() && !changes.unconverted,
        "{changes:?}"
    );

    // A policy of today for the workload wins, ports included.
    world.put(
        "PeerAuthentication",
        "foo/a",
        0,
        &of_workload("new", "DISABLE"),
    );
    world.publish();
    let mtls = world.mtls("foo", "new");
    assert_eq!((mtls.default, mtls.ports), (MtlsMode::Disable, Vec::new()));
    world.put("PeerAuthentication", "foo/a", 0, &Value::Null);

    world.put("Service", "foo/web", 0, &Value::Null);
    assert_eq!(world.publish().policies, [Arc::from("foo")].into());
    assert_eq!(world.mtls("foo", "new"), WorkloadMtls::default());
    assert_eq!(world.complaints().len(), 1);
    world.put("Policy", "foo/web", 0, &Value::Null);
    let changes = world.publish();
    assert!(
        changes.unconverted && changes.policies.is_empty(),
        "{changes:?}"
    );
    assert_eq!(world.complaints(), Vec::<String>::new());
}

#[test]
fn a_target_port_with_a_name_is_what_endpoints_say() {
    let mut world = World::new();
    world.put("Policy", "foo/web", 0, &target("web", &[]));
    world.put("Service", "foo/web", 0, &service("web", "web", 0, &[]));
    world.publish();
    assert!(world.complaints()[0].contains("has a named target port"));
    let one = [("10.0.0.1", 8080)];
    world.put("Service", "foo/web", 0, &service("web", "web", 0, &one));
    world.publish();
    assert_eq!(world.complaints(), Vec::<String>::new());
    assert_eq!(world.mtls("foo", "web").ports, [(8080, MtlsMode::Strict)]);

    let same = [("10.0.0.1", 8080), ("10.0.0.2", 8080)];
    world.put("Service", "foo/web", 0, &service("web", "web", 0, &same));
    assert!(world.publish().is_endpoints_only());
    let more = [("10.0.0.1", 8080), ("10.0.0.2", 8081)];
    world.put("Service", "foo/web", 0, &service("web", "web", 0, &more));
    assert_eq!(world.publish().policies, [Arc::from("foo")].into());
    let ports = [(8080, MtlsMode::Strict), (8081, MtlsMode::Strict)];
    assert_eq!(world.mtls("foo", "web").ports, ports);
}

#[test]
fn services_with_one_selector_that_differ_are_both_left_out() {
    let mut world = World::new();
    world.put("Service", "foo/a", 0, &service("a", "web", 8080, &[]));
    world.put("Service", "foo/b", 0, &service("b", "web", 8080, &[]));
    world.put("Policy", "foo/a", 0, &target("a", &[]));
    let plain = json!({"targets": [{"name": "b"}]});
    world.put("Policy", "foo/b", 0, &plain);
    world.publish();
    assert_eq!(world.mtls("foo", "web"), WorkloadMtls::default());
    assert_eq!(world.complaints().len(), 2);
    // The other one gets workloads of its own.
    world.put("Service", "foo/b", 0, &service("b", "else", 8080, &[]));
    world.publish();
    assert_eq!(world.mtls("foo", "web").ports, [(8080, MtlsMode::Strict)]);
    assert_eq!(world.mtls("foo", "else").ports, [(8080, MtlsMode::Disable)]);
    assert_eq!(world.complaints(), Vec::<String>::new());
}

#[test]
fn a_mesh_policy_follows_the_root_namespace() {
    let mut world = World::new();
    world.put("MeshPolicy", "default", 0, &strict());
    world.put("Policy", "mesh-system/default", 0, &json!({}));
    world.publish();
    let config = MeshConfig {
        root_namespace: "mesh-system".to_owned(),
        ..MeshConfig::default()
    };
    world.builder.set_mesh(Mesh::new(config, "cluster.local"));
    world.publish();
    assert_eq!(world.mtls("foo", "web").default, MtlsMode::Strict);
    let names = world.builder.converted().map(|one| one.meta.full_name());
    assert_eq!(
        names.collect::<Vec<_>>(),
        ["mesh-system/meshpolicy~default"]
    );
    assert!(world.complaints()[0].contains("mesh-system is the root namespace"));
}

#[test]
fn a_body_that_cannot_be_read_leaves_the_last_good_one() {
    let mut world = World::new();
    world.put("MeshPolicy", "default", 0, &strict());
    let collection = collections::by_gvk("authentication.istio.io", "MeshPolicy").expect("known");
    let key = ObjectKey::new("", "default");
    let object = Object {
        meta: Meta::default(),
        collection,
        body: vec![0xff].into(),
    };
    assert!(world.builder.apply(collection, &key, Some(object)).is_err());
    world.publish();
    assert_eq!(world.mtls("foo", "web").default, MtlsMode::Strict);
}

#[test]
fn the_order_of_arrival_does_not_matter() {
    let strict = strict();
    let web = target("web", &[]);
    let older = json!({"targets": [{"name": "web"}]});
    let service = service("web", "web", 8080, &[]);
    let puts: [(&str, &str, i64, &Value); 4] = [
        ("MeshPolicy", "default", 0, &strict),
        ("Policy", "foo/web", 0, &web),
        ("Policy", "foo/z", 5, &older),
        ("Service", "foo/web", 0, &service),
    ];
    let mut results = Vec::new();
    for turn in 0..puts.len() {
        for reversed in [false, true] {
            let mut order = puts;
            order.rotate_left(turn);
            if reversed {
                order.reverse();
            }
            let mut world = World::new();
            for (kind, name, age, spec) in order {
                world.put(kind, name, age, spec);
                world.publish();
            }
            results.push((world.mtls("foo", "web"), world.complaints()));
        }
    }
    assert_eq!(results[0].0.ports, [(8080, MtlsMode::Disable)]);
    assert_eq!(results[0].1.len(), 1);
    assert!(
        results.iter().all(|result| *result == results[0]),
        "{results:?}"
    );
}
