//! A change costs what it changes: how many units of work are made again, and how many classes
//! there are.

use std::time::Instant;

use istio_api::{
    json::{self, Unknown},
    object::{Meta, Object},
};
use pilot_model::{
    builder::Builder, changes::Changes, key::ObjectKey, mesh::Mesh, proxy::Proxy,
    snapshot::Snapshot,
};
use pilot_networking::class::fleet::Fleet;
use serde_json::{Value, json};

use crate::{kinds::Kind, proxies};

struct Pilot {
    builder: Builder,
    fleet: Fleet,
}

impl Pilot {
    fn new() -> Self {
        Self {
            builder: Builder::new(Mesh::default()),
            fleet: Fleet::default(),
        }
    }

    fn put(&mut self, kind: Kind, namespace: &str, name: &str, spec: &Value) {
        let collection = kind.collection();
        let (body, _) = json::read_dynamic(collection.message, spec, Unknown::Refuse)
            .unwrap_or_else(|issues| panic!("{spec}: {issues:?}"));
        let object = Object {
            meta: Meta {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                resource_version: "1".to_owned(),
                ..Meta::default()
            },
            collection,
            body: body.into(),
        };
        let key = ObjectKey::new(namespace, name);
        let applied = self.builder.apply(collection, &key, Some(object));
        applied.expect("a decodable object");
    }

    fn service(&mut self, namespace: &str, name: &str, address: &str) {
        let spec = json!({
            "hosts": [format!("{name}.{namespace}.svc.cluster.local")],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "endpoints": [{"address": address, "ports": {"http": 8080}}],
        });
        self.put(Kind::Service, namespace, name, &spec);
    }

    fn publish(&mut self) -> (std::sync::Arc<Snapshot>, Changes) {
        let (snapshot, changes) = self.builder.publish();
        self.fleet.follow(&snapshot, &changes, Instant::now());
        (snapshot, changes)
    }

    /// Units that were made and not found: clusters, endpoints, virtual hosts, listeners.
    fn made(&self) -> [u64; 4] {
        let cache = self.fleet.cache();
        [
            cache.clusters.misses(),
            cache.endpoints.misses(),
            cache.virtual_hosts.misses(),
            cache.listeners.misses(),
        ]
    }

    /// What `change` makes again.
    fn cost(&mut self, change: impl FnOnce(&mut Self)) -> [u64; 4] {
        let before = self.made();
        change(self);
        self.publish();
        let after = self.made();
        std::array::from_fn(|at| after[at] - before[at])
    }
}

/// A mesh of so many services, with sidecars in two namespaces and a gateway.
fn mesh(services: usize) -> Pilot {
    let mut pilot = Pilot::new();
    for number in 0..services {
        pilot.service("a", &format!("web{number}"), "10.1.0.1");
    }
    let (snapshot, _) = pilot.publish();
    for id in [0, 1, 8] {
        let proxy = proxies::proxy(id);
        let connection = u64::from(id);
        pilot
            .fleet
            .connect(connection, proxy, &snapshot, Instant::now());
    }
    pilot
}

#[test]
fn a_change_makes_again_what_it_touches_whatever_the_size_of_the_mesh() {
    for services in [10, 100] {
        let mut pilot = mesh(services);
        let endpoint = pilot.cost(|pilot| pilot.service("a", "web3", "10.1.0.2"));
        assert_eq!(endpoint, [0, 1, 0, 0], "an endpoint, {services} services");
        let rule = json!({"host": "web3", "trafficPolicy": {"connectionPool": {"tcp": {"maxConnections": 7}}}});
        let rule = pilot.cost(|pilot| pilot.put(Kind::DestinationRule, "a", "web3", &rule));
        // Short names, and so virtual hosts, differ between the two namespaces of clients.
        assert_eq!(rule, [1, 1, 2, 0], "a DestinationRule, {services} services");
        let routes = json!({"hosts": ["web3"], "http": [{"timeout": "3s", "route": [{"destination": {"host": "web3"}}]}]});
        let routes = pilot.cost(|pilot| pilot.put(Kind::VirtualService, "a", "web3", &routes));
        // Those of the service for each namespace, and the (empty) ones of hosts without a service.
        assert_eq!(
            routes,
            [0, 0, 3, 0],
            "a VirtualService, {services} services"
        );
    }
}

#[test]
fn only_members_of_changed_classes_hear_of_a_change() {
    let mut pilot = mesh(3);
    pilot.service("a", "web1", "10.1.0.9");
    let (snapshot, changes) = pilot.builder.publish();
    let affected = pilot.fleet.follow(&snapshot, &changes, Instant::now());
    // No Gateway routes to the service, so the gateway has none of its endpoints.
    assert_eq!(affected.into_iter().collect::<Vec<_>>(), [0, 1]);
}

#[test]
fn what_selects_workloads_does_not_multiply_classes_of_clients() {
    const APPS: u64 = 1_000;
    let classes = |with_policies: bool| {
        let mut pilot = Pilot::new();
        for app in 0..if with_policies { APPS } else { 0 } {
            let labels = json!({"app": format!("x{app}")});
            let policy = json!({"selector": {"matchLabels": labels}, "mtls": {"mode": "STRICT"}});
            let name = format!("x{app}");
            pilot.put(Kind::PeerAuthentication, "a", &name, &policy);
            let sidecar = json!({
                "workloadSelector": {"labels": labels},
                "ingress": [{"port": {"number": 8080, "name": "http", "protocol": "HTTP"},
                             "defaultEndpoint": "127.0.0.1:9000"}],
            });
            pilot.put(Kind::Sidecar, "a", &name, &sidecar);
        }
        let (snapshot, _) = pilot.publish();
        for app in 0..APPS {
            let mut proxy: Proxy = proxies::proxy(0);
            proxy.labels = std::sync::Arc::new([("app".to_owned(), format!("x{app}"))].into());
            pilot.fleet.connect(app, proxy, &snapshot, Instant::now());
        }
        let fleet = &pilot.fleet;
        (
            fleet.outbound_classes().count(),
            fleet.inbound_classes().count(),
        )
    };
    assert_eq!(classes(false), (1, 1));
    assert_eq!(classes(true), (1, usize::try_from(APPS).unwrap()));
}

#[test]
fn locality_divides_clients_only_where_endpoints_are_ordered_by_it() {
    let mut pilot = mesh(1);
    let count = |pilot: &Pilot| {
        let used = pilot.fleet.outbound_classes();
        used.filter(|(_, members)| *members > 0).count()
    };
    let (snapshot, _) = pilot.publish();
    // As proxy 0, but elsewhere.
    pilot
        .fleet
        .connect(2, proxies::proxy(2), &snapshot, Instant::now());
    assert_eq!(count(&pilot), 3);
    let rule = json!({"host": "web0", "trafficPolicy": {"outlierDetection": {}}});
    pilot.put(Kind::DestinationRule, "a", "web0", &rule);
    pilot.publish();
    assert_eq!(count(&pilot), 4);
}
