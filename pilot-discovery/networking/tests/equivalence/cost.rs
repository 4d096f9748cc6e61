//! What a change costs: how much is asked for again, and how much of that is made. Equal results
//! do not show this, since making everything again gives them, too.

use std::{collections::BTreeSet, time::Instant};

use istio_api::{
    collections::{self, Collection},
    envoy::config::core::v3::Node,
    json::{self, Unknown},
    object::{Meta, Object},
};
use pilot_model::{builder::Builder, key::ObjectKey, mesh::Mesh, proxy::Proxy, service::Locality};
use pilot_networking::{
    class::{cache::Shared, fleet::Fleet},
    kind::Kind,
};
use serde_json::{Value, json};

/// Services of the mesh, in two namespaces.
const SERVICES: usize = 100;

/// Connected sidecars, one in each namespace, so there are as many classes of clients.
const CLASSES: u64 = 2;

struct World {
    builder: Builder,
    fleet: Fleet,
    version: usize,
}

/// How often a result was needed, and how often it had to be made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Count {
    asked: u64,
    made: u64,
}

impl Count {
    fn of<T>(shared: &Shared<T>) -> Self {
        Self {
            asked: shared.hits() + shared.misses(),
            made: shared.misses(),
        }
    }

    fn since(self, before: Self) -> Self {
        Self {
            asked: self.asked - before.asked,
            made: self.made - before.made,
        }
    }
}

const NOTHING: Count = Count { asked: 0, made: 0 };

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Work {
    clusters: Count,
    endpoints: Count,
    listeners: Count,
    inbound_listeners: Count,
    virtual_hosts: Count,
}

impl World {
    fn new() -> Self {
        Self {
            builder: Builder::new(Mesh::default()),
            fleet: Fleet::default(),
            version: 0,
        }
    }

    fn put(&mut self, collection: &'static Collection, namespace: &str, name: &str, spec: &Value) {
        self.version += 1;
        let (body, _) = json::read_dynamic(collection.message, spec, Unknown::Refuse)
            .unwrap_or_else(|issues| panic!("{spec}: {issues:?}"));
        let object = Object {
            meta: Meta {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
                resource_version: self.version.to_string(),
                ..Meta::default()
            },
            collection,
            body: body.into(),
        };
        let key = ObjectKey::new(namespace, name);
        self.builder
            .apply(collection, &key, Some(object))
            .expect("a valid object");
    }

    fn service(&mut self, number: usize, address: &str) {
        let namespace = ["a", "b"][number % 2];
        let spec = json!({
            "hosts": [host(number)],
            "addresses": [format!("10.96.{}.{}", number / 250, number % 250 + 1)],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "location": "MESH_INTERNAL",
            "endpoints": [{"address": address, "ports": {"http": 8080}}],
        });
        let collection = &collections::SYNTHETIC_SERVICE_ENTRIES;
        self.put(collection, namespace, &format!("s{number}"), &spec);
    }

    fn connect(&mut self, id: u64, namespace: &str, labels: &Value) {
        let (snapshot, changes) = self.builder.publish();
        let now = Instant::now();
        self.fleet.follow(&snapshot, &changes, now);
        let proxy = sidecar(id, namespace, labels);
        self.fleet.connect(id, proxy, &snapshot, now);
    }

    /// What the changes since the last call cost, and who has to hear of them.
    fn follow(&mut self) -> (Work, BTreeSet<u64>) {
        let before = self.work();
        let (snapshot, changes) = self.builder.publish();
        let affected = self.fleet.follow(&snapshot, &changes, Instant::now());
        (self.work().since(before), affected)
    }

    fn work(&self) -> Work {
        let cache = self.fleet.cache();
        Work {
            clusters: Count::of(&cache.clusters),
            endpoints: Count::of(&cache.endpoints),
            listeners: Count::of(&cache.listeners),
            inbound_listeners: Count::of(&cache.inbound_listeners),
            virtual_hosts: Count::of(&cache.virtual_hosts),
        }
    }
}

impl Work {
    fn since(self, before: Self) -> Self {
        Self {
            clusters: self.clusters.since(before.clusters),
            endpoints: self.endpoints.since(before.endpoints),
            listeners: self.listeners.since(before.listeners),
            inbound_listeners: self.inbound_listeners.since(before.inbound_listeners),
            virtual_hosts: self.virtual_hosts.since(before.virtual_hosts),
        }
    }
}

fn host(number: usize) -> String {
    let namespace = ["a", "b"][number % 2];
    format!("s{number}.{namespace}.svc.cluster.local")
}

fn sidecar(id: u64, namespace: &str, labels: &Value) -> Proxy {
    let ip = format!("10.1.{}.{}", id / 250, id % 250 + 1);
    let node = json!({
        "id": format!("sidecar~{ip}~p.{namespace}~{namespace}.svc.cluster.local"),
        "metadata": {"NAMESPACE": namespace, "INSTANCE_IPS": ip, "LABELS": labels},
    });
    let (node, _) = json::read::<Node>(&node, Unknown::Refuse).expect("a node");
    Proxy::parse(Some(&node)).expect("a proxy")
}

fn collection(group: &str, kind: &str) -> &'static Collection {
    collections::by_gvk(group, kind).expect("a known kind")
}

/// Many services, and a class of clients in each of their namespaces.
fn mesh() -> World {
    let mut world = World::new();
    for number in 0..SERVICES {
        world.service(number, "10.2.0.1");
    }
    world.connect(0, "a", &json!({}));
    world.connect(1, "b", &json!({}));
    assert_eq!(world.fleet.outbound_classes().count() as u64, CLASSES);
    world
}

#[test]
fn classes_of_other_namespaces_share_what_they_hold() {
    let world = mesh();
    let sides = [0, 1].map(|id| world.fleet.sides(id).expect("connected").outbound);
    for kind in [Kind::Cluster, Kind::Endpoint, Kind::Listener] {
        let (one, other) = (&sides[0][kind], &sides[1][kind]);
        assert!(!one.is_empty() && one.ptr_eq(other), "{kind:?}");
    }
}

/// Each class asks once for what each of `hosts` needs; the first to ask has it made.
fn each(hosts: u64) -> Count {
    Count {
        asked: hosts * CLASSES,
        made: hosts,
    }
}

#[test]
fn an_endpoint_change_makes_the_endpoints_of_one_service() {
    let mut world = mesh();
    world.service(7, "10.2.0.2");
    let (work, affected) = world.follow();
    let expected = Work {
        clusters: NOTHING,
        endpoints: each(1),
        listeners: NOTHING,
        inbound_listeners: NOTHING,
        virtual_hosts: NOTHING,
    };
    assert_eq!(work, expected);
    assert_eq!(affected, BTreeSet::from([0, 1]));
    world.service(7, "10.2.0.2");
    let (work, _) = world.follow();
    assert_eq!(work.endpoints.made, 0, "only the version is another");
}

/// Endpoints and default routes depend on the rule as well; listeners of HTTP ports do not. The
/// short names of a service depend on the namespace, so classes do not share its virtual hosts.
#[test]
fn a_destination_rule_makes_what_it_covers() {
    let mut world = mesh();
    let rules = collection("networking.istio.io", "DestinationRule");
    let spec = |host: &str| {
        let pool = json!({"http": {"http2MaxRequests": 3}});
        json!({"host": host, "trafficPolicy": {"connectionPool": pool}})
    };
    let covering = |hosts| Work {
        clusters: each(hosts),
        endpoints: each(hosts),
        listeners: NOTHING,
        inbound_listeners: NOTHING,
        virtual_hosts: Count {
            asked: hosts * CLASSES,
            made: hosts * CLASSES,
        },
    };
    world.put(rules, "a", "one", &spec(&host(8)));
    assert_eq!(world.follow().0, covering(1));
    world.put(rules, "b", "half", &spec("*.b.svc.cluster.local"));
    assert_eq!(world.follow().0, covering(SERVICES as u64 / 2));
    world.put(rules, "a", "none", &spec("nothing.a.svc.cluster.local"));
    let (work, affected) = world.follow();
    assert_eq!(work, covering(0));
    assert!(affected.is_empty());
}

/// What is selected for serving divides servers and no clients.
#[test]
fn policies_of_many_workloads_leave_one_class_of_clients() {
    const APPS: u64 = 1_000;
    let mut world = World::new();
    world.service(0, "10.2.0.1");
    let policies = collection("security.istio.io", "PeerAuthentication");
    let sidecars = collection("networking.istio.io", "Sidecar");
    let ingress = json!([{
        "port": {"number": 9000, "name": "http", "protocol": "HTTP"},
        "defaultEndpoint": "127.0.0.1:8080",
    }]);
    let label = |id: u64| json!({"app": format!("x{id}")});
    for id in 0..APPS {
        world.connect(id, "a", &label(id));
    }
    assert_eq!(world.fleet.outbound_classes().count(), 1);
    assert_eq!(world.fleet.inbound_classes().count(), 1);
    for id in 0..APPS {
        let name = format!("x{id}");
        let selector = json!({"matchLabels": label(id)});
        let mtls = json!({"selector": selector, "mtls": {"mode": "STRICT"}});
        world.put(policies, "a", &name, &mtls);
        let selector = json!({"labels": label(id)});
        let sidecar = json!({"workloadSelector": selector, "ingress": ingress});
        world.put(sidecars, "a", &name, &sidecar);
    }
    world.follow();
    let clients = world.fleet.outbound_classes();
    let clients: Vec<usize> = clients.map(|(_, members)| members).collect();
    assert_eq!(clients, [APPS as usize]);
    let servers = world.fleet.inbound_classes();
    let servers = servers.filter(|(_, members)| *members > 0).count();
    assert_eq!(servers as u64, APPS);
}

/// Where clients are divides them only while some rule orders endpoints by distance.
#[test]
fn locality_divides_clients_only_where_a_rule_looks_at_it() {
    let mut world = World::new();
    world.service(0, "10.2.0.1");
    let (snapshot, changes) = world.builder.publish();
    let now = Instant::now();
    world.fleet.follow(&snapshot, &changes, now);
    for (id, region) in [(0, "r1"), (1, "r2")] {
        let mut proxy = sidecar(id, "a", &json!({}));
        proxy.locality = Locality::parse(region);
        world.fleet.connect(id, proxy, &snapshot, now);
    }
    let used = |world: &World| {
        let classes = world.fleet.outbound_classes();
        classes.filter(|(_, members)| *members > 0).count()
    };
    assert_eq!(used(&world), 1);
    let rules = collection("networking.istio.io", "DestinationRule");
    let outliers = json!({"host": host(0), "trafficPolicy": {"outlierDetection": {}}});
    world.put(rules, "a", "outliers", &outliers);
    world.follow();
    assert_eq!(used(&world), 2);
}
