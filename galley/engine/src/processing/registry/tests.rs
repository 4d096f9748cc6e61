use istio_api::manifest::{self, Found, Item};
use istio_api::networking::v1alpha3::{ServiceEntry, service_entry};
use istio_api::synthetic::{Facts, Health, NODE_NAME, WORKLOAD_NAME};
use mesh_core::yaml;
use prost::Message;

use super::*;

fn names() -> Names {
    Names {
        domain: "cluster.local".to_owned(),
        trust_domain: "cluster.local".to_owned(),
    }
}

struct Table(Registry);

impl Table {
    fn new(text: &str) -> Self {
        let mut table = Self(Registry::new(names()));
        table.apply(text);
        table
    }

    fn each(text: &str, mut visit: impl FnMut(Key, Native)) {
        for document in yaml::split(text) {
            let value = yaml::read(&document).unwrap().unwrap();
            for (_, found) in manifest::read(&value) {
                match found {
                    Found::Object {
                        key,
                        item: Ok(Item::Native(native)),
                        ..
                    } => visit(key, native),
                    other => panic!("{other:?}"),
                }
            }
        }
    }

    fn apply(&mut self, text: &str) {
        Self::each(text, |key, native| self.0.apply(&key, Some(&native)));
    }

    fn delete(&mut self, text: &str) {
        Self::each(text, |key, _| self.0.apply(&key, None));
    }

    /// Names of the rebuilt services.
    fn rebuilt(&mut self) -> Vec<String> {
        self.0
            .rebuild()
            .into_iter()
            .map(|(name, _)| name.to_string())
            .collect()
    }

    fn only(&mut self) -> (ServiceEntry, Facts, Synthetic) {
        let mut rebuilt = self.0.rebuild();
        assert_eq!(rebuilt.len(), 1, "{rebuilt:?}");
        let synthetic = rebuilt.remove(0).1.unwrap();
        let resource = &synthetic.config.resource;
        let entry = ServiceEntry::decode(resource.body.as_ref().unwrap().value.as_slice()).unwrap();
        let facts = Facts::read(&resource.metadata.as_ref().unwrap().annotations, &entry).unwrap();
        (entry, facts, synthetic)
    }
}

const REVIEWS: &str = "
apiVersion: v1
kind: Service
metadata: {name: reviews, namespace: shop, labels: {app: reviews}}
spec:
  clusterIP: 10.96.0.7
  selector: {app: reviews}
  ports:
  - {name: http, port: 9080}
  - {name: grpc-admin, port: 90, targetPort: admin}
  - {name: odd, port: 91, targetPort: 9191, appProtocol: kubernetes.io/h2c}
";

const SLICE: &str = "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {name: reviews-x, namespace: shop, labels: {kubernetes.io/service-name: reviews}}
addressType: IPv4
ports:
- {name: http, port: 9080}
- {name: grpc-admin, port: 9191}
endpoints:
- addresses: [10.1.0.5]
  conditions: {ready: true}
  targetRef: {kind: Pod, name: reviews-v1}
- addresses: [10.1.0.6]
  conditions: {ready: false}
  targetRef: {kind: Pod, name: reviews-v2}
";

fn pod(name: &str, ip: &str, version: &str) -> String {
    format!(
        "
apiVersion: v1
kind: Pod
metadata:
  name: {name}
  namespace: shop
  labels: {{app: reviews, version: {version}, pod-template-hash: abc}}
  ownerReferences:
  - {{kind: ReplicaSet, name: reviews-{version}-abc, controller: true}}
spec: {{serviceAccountName: bookinfo-reviews, nodeName: node1}}
status: {{podIP: {ip}, phase: Running}}
"
    )
}

const NODE: &str = "
apiVersion: v1
kind: Node
metadata:
  name: node1
  labels: {topology.kubernetes.io/region: r, topology.kubernetes.io/zone: z}
";

fn all() -> String {
    let pods = [
        pod("reviews-v1", "10.1.0.5", "v1"),
        pod("reviews-v2", "10.1.0.6", "v2"),
    ];
    [REVIEWS, SLICE, &pods.join("\n---\n"), NODE].join("\n---\n")
}

#[test]
fn a_service_carries_everything_that_pilot_needs() {
    let (entry, facts, synthetic) = Table::new(&all()).only();
    assert_eq!(
        synthetic.config.resource.metadata.as_ref().unwrap().name,
        "shop/reviews"
    );
    assert_eq!(
        synthetic.config.resource.metadata.as_ref().unwrap().labels["app"],
        "reviews"
    );
    assert_eq!(entry.hosts, ["reviews.shop.svc.cluster.local"]);
    assert_eq!(entry.addresses, ["10.96.0.7"]);
    assert_eq!(entry.resolution(), service_entry::Resolution::Static);
    assert_eq!(entry.location(), service_entry::Location::MeshInternal);
    let ports: Vec<_> = entry
        .ports
        .iter()
        .map(|p| {
            (
                p.name.as_str(),
                p.number,
                p.protocol.as_str(),
                p.target_port,
            )
        })
        .collect();
    assert_eq!(
        ports,
        [
            ("http", 9080, "HTTP", 9080),
            ("grpc-admin", 90, "GRPC", 0),
            ("odd", 91, "HTTP2", 9191)
        ]
    );
    assert_eq!(
        facts.target_ports,
        [("grpc-admin".to_owned(), "admin".to_owned())].into()
    );
    assert_eq!(
        facts.selector,
        [("app".to_owned(), "reviews".to_owned())].into()
    );

    assert_eq!(entry.endpoints.len(), 1);
    let endpoint = &entry.endpoints[0];
    assert_eq!(endpoint.address, "10.1.0.5");
    assert_eq!(
        (endpoint.ports["http"], endpoint.ports["grpc-admin"]),
        (9080, 9191)
    );
    assert_eq!(endpoint.labels["version"], "v1");
    assert_eq!(endpoint.labels[NODE_NAME], "node1");
    assert_eq!(endpoint.labels[WORKLOAD_NAME], "reviews-v1");
    assert_eq!(endpoint.service_account, "bookinfo-reviews");
    assert_eq!(endpoint.locality, "r/z");

    assert_eq!(facts.not_ready.len(), 1);
    let waiting = &facts.not_ready[0];
    assert_eq!(
        (waiting.entry.address.as_str(), waiting.health),
        ("10.1.0.6", Health::Unhealthy)
    );
    assert_eq!(waiting.entry.labels["version"], "v2");
    assert_eq!(waiting.entry.ports["http"], 9080);
}

#[test]
fn equal_input_in_any_order_gives_equal_output() {
    let (_, _, one) = Table::new(&all()).only();
    let mut documents: Vec<_> = all().split("\n---\n").map(str::to_owned).collect();
    documents.reverse();
    let (_, _, other) = Table::new(&documents.join("\n---\n")).only();
    assert_eq!(one.config.resource, other.config.resource);
}

#[test]
fn an_endpoint_waits_for_its_pod() {
    let mut table = Table::new(&[REVIEWS, SLICE].join("\n---\n"));
    let (entry, facts, synthetic) = table.only();
    assert!(entry.endpoints.is_empty() && facts.not_ready.is_empty());
    assert_eq!(synthetic.withheld, 2);
    assert_eq!(table.0.withheld().map(|(_, n)| *n).collect::<Vec<_>>(), [2]);
    table.apply(&pod("reviews-v1", "10.1.0.5", "v1"));
    assert_eq!(table.only().0.endpoints.len(), 1);
    let second = pod("reviews-v2", "10.1.0.6", "v2");
    table.apply(&second);
    assert_eq!(table.only().1.not_ready.len(), 1);
    assert_eq!(table.0.withheld().count(), 0);
    table.delete(&second);
    assert_eq!(table.only().1.not_ready.len(), 0);
}

#[test]
fn a_change_rebuilds_what_it_touches_only() {
    let mut table = Table::new(&all());
    table.apply("apiVersion: v1\nkind: Service\nmetadata: {name: other, namespace: shop}\n");
    assert_eq!(table.rebuilt(), ["shop/other", "shop/reviews"]);
    assert!(table.rebuilt().is_empty());
    table.apply(&pod("reviews-v1", "10.1.0.5", "v3"));
    assert_eq!(table.rebuilt(), ["shop/reviews"]);
    table.apply(&NODE.replace("zone: z", "zone: y"));
    assert_eq!(table.rebuilt(), ["shop/reviews"]);
    table.apply(&pod("stranger", "10.1.0.9", "v3"));
    assert!(table.rebuilt().is_empty());
    table.delete(SLICE);
    assert_eq!(table.only().0.endpoints.len(), 0);
    table.delete(REVIEWS);
    let rebuilt = table.0.rebuild();
    assert!(rebuilt[0].1.is_none());
}

#[test]
fn endpoints_without_a_reference_find_their_pod_by_address() {
    let endpoints = "
apiVersion: v1
kind: Endpoints
metadata: {name: reviews, namespace: shop}
subsets:
- addresses: [{ip: 10.1.0.5}, {ip: 192.0.2.1}]
  notReadyAddresses: [{ip: 10.1.0.7}]
  ports: [{name: http, port: 9080}]
- addresses: [{ip: 10.1.0.5}]
  ports: [{name: odd, port: 9191}]
";
    let mut table = Table::new(&[REVIEWS, endpoints].join("\n---\n"));
    assert_eq!(table.only().0.endpoints[0].service_account, "");
    table.apply(&pod("reviews-v1", "10.1.0.5", "v1"));
    let (entry, facts, _) = table.only();
    let addresses: Vec<_> = entry.endpoints.iter().map(|e| e.address.as_str()).collect();
    assert_eq!(addresses, ["10.1.0.5", "192.0.2.1"]);
    assert_eq!(entry.endpoints[0].ports.len(), 2);
    assert_eq!(entry.endpoints[0].service_account, "bookinfo-reviews");
    assert_eq!(facts.not_ready[0].entry.address, "10.1.0.7");
    // Slices replace Endpoints of the same service.
    table.apply(SLICE);
    assert_eq!(table.only().0.endpoints.len(), 1);
}

#[test]
fn conditions_of_slices() {
    let slice = |conditions: &str| {
        format!(
            "
apiVersion: discovery.k8s.io/v1
kind: EndpointSlice
metadata: {{name: s, namespace: shop, labels: {{kubernetes.io/service-name: reviews}}}}
ports: [{{name: http, port: 9080}}]
endpoints: [{{addresses: [10.1.0.5], conditions: {conditions}}}]
"
        )
    };
    let cases = [
        ("{}", None),
        ("{ready: true}", None),
        ("{ready: false}", Some(Health::Unhealthy)),
        (
            "{ready: false, serving: true, terminating: true}",
            Some(Health::Draining),
        ),
        (
            "{ready: false, serving: false, terminating: true}",
            Some(Health::Terminating),
        ),
        (
            "{ready: false, terminating: true}",
            Some(Health::Terminating),
        ),
    ];
    for (conditions, wanted) in cases {
        let (entry, facts, _) = Table::new(&[REVIEWS, &slice(conditions)].join("\n---\n")).only();
        let health = facts.not_ready.first().map(|endpoint| endpoint.health);
        assert_eq!(health, wanted, "{conditions}");
        assert_eq!(entry.endpoints.is_empty(), wanted.is_some(), "{conditions}");
    }
}

#[test]
fn headless_and_external_services() {
    let headless = "
apiVersion: v1
kind: Service
metadata: {name: db, namespace: shop}
spec: {clusterIP: None, publishNotReadyAddresses: true, internalTrafficPolicy: Local}
";
    let (entry, facts, _) = Table::new(headless).only();
    assert_eq!(entry.addresses, ["0.0.0.0"]);
    assert_eq!(entry.resolution(), service_entry::Resolution::None);
    assert!(facts.publish_not_ready && facts.node_local);
    let external = "
apiVersion: v1
kind: Service
metadata:
  name: search
  namespace: shop
  annotations: {networking.istio.io/exportTo: ' b, a,b'}
spec: {type: ExternalName, externalName: www.example.com., ports: [{port: 80}]}
";
    let (entry, facts, _) = Table::new(external).only();
    assert!(entry.addresses.is_empty());
    assert_eq!(entry.resolution(), service_entry::Resolution::Dns);
    assert_eq!(entry.location(), service_entry::Location::MeshExternal);
    assert_eq!(entry.endpoints[0].address, "www.example.com");
    assert_eq!(entry.endpoints[0].ports.values().collect::<Vec<_>>(), [&80]);
    assert_eq!(facts.external_name.as_deref(), Some("www.example.com"));
    assert_eq!(entry.export_to, ["a", "b"]);
}

#[test]
fn other_names_rebuild_everything() {
    let mut table = Table::new(REVIEWS);
    table.only();
    table.0.rename(names());
    assert!(table.rebuilt().is_empty());
    table.0.rename(Names {
        domain: "mesh.example".to_owned(),
        ..names()
    });
    assert_eq!(table.only().0.hosts, ["reviews.shop.svc.mesh.example"]);
}
