//! Cache keys: equal where the bytes are, so that clients share them, and different where not.

use pilot_model::{
    class::{Client, classify},
    hashed::hash_of,
    host::Host,
    scope::Scope,
};
use pilot_networking::{
    cluster,
    endpoint::{self, Uses},
};

use crate::fixture::Fixture;

const SERVICE: &str = "
kind: SyntheticServiceEntry
metadata: {name: web, namespace: demo}
spec:
  hosts: [web.demo.svc.cluster.local]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP, targetPort: 8080}]
  endpoints:
  - {address: 10.1.0.5, ports: {http: 8080}, locality: r1/z1, serviceAccount: web, labels: {app: web, security.istio.io/tlsMode: istio}}
";

const SECOND_ENDPOINT: &str = "  - {address: 10.1.0.6, ports: {http: 8080}, \
    locality: r2/z1, serviceAccount: web, labels: {app: web, security.istio.io/tlsMode: istio}}
";

const OUTLIERS: &str = "
---
kind: DestinationRule
apiVersion: networking.istio.io/v1
metadata: {name: web, namespace: demo}
spec: {host: web, trafficPolicy: {outlierDetection: {consecutive5xxErrors: 1}}}
";

fn client(namespace: &str, region: &str) -> String {
    format!(
        "id: sidecar~10.1.0.99~client.{namespace}~{namespace}.svc.cluster.local\n\
         metadata: {{NAMESPACE: {namespace}, INSTANCE_IPS: 10.1.0.99, LABELS: {{app: client}}}}\n\
         locality: {{region: {region}, zone: z1}}\n"
    )
}

/// Keys of the clusters and of the endpoints of the service.
fn keys(input: &str, proxy: &str) -> (u128, u128) {
    keys_of("web.demo.svc.cluster.local", input, proxy)
}

fn keys_of(host: &str, input: &str, proxy: &str) -> (u128, u128) {
    let fixture = Fixture::inline(input, proxy);
    let snapshot = &*fixture.snapshot;
    let (class, _) = classify(snapshot, &fixture.proxy);
    let scope = Scope::build(snapshot, &class.namespace, None);
    let client = Client {
        snapshot,
        class: &class,
        scope: &scope,
    };
    let service = client.service(&Host::new(host)).expect("declared");
    let uses = Uses {
        routed: true,
        passed_through: false,
    };
    (
        hash_of(&cluster::outbound::gather(&client, service, uses)),
        hash_of(&endpoint::gather(&client, service, uses)),
    )
}

#[test]
fn clients_anywhere_share_where_no_policy_tells_them_apart() {
    let near = keys(SERVICE, &client("demo", "r1"));
    assert_eq!(near, keys(SERVICE, &client("demo", "r2")));
    assert_eq!(near, keys(SERVICE, &client("other", "r2")));
}

/// Only of services that are not shared between clusters, the cluster of the client counts.
#[test]
fn the_cluster_counts_where_a_service_stays_in_it() {
    let differ = |host: &str, settings: &str| {
        let input = SERVICE.replace("web.demo.svc.cluster.local", host);
        let mesh =
            format!("{input}---\nkind: MeshConfig\nspec: {{serviceSettings: [{settings}]}}\n");
        let of = |cluster: &str| {
            let more = format!("{{CLUSTER_ID: {cluster}, NAMESPACE");
            keys_of(
                host,
                &mesh,
                &client("demo", "r1").replace("{NAMESPACE", &more),
            )
            .1
        };
        of("one") != of("two")
    };
    let local =
        |is: bool, host: &str| format!("{{settings: {{clusterLocal: {is}}}, hosts: [{host:?}]}}");
    let web = "web.demo.svc.cluster.local";
    assert!(!differ(web, ""));
    assert!(differ(web, &local(true, "*.demo.svc.cluster.local")));
    assert!(!differ(web, &local(true, "*.other.svc.cluster.local")));
    assert!(!differ(web, &local(false, "*.demo.svc.cluster.local")));
    assert!(differ("kubernetes.default.svc.cluster.local", ""));
    assert!(differ("dns.kube-system.svc.cluster.local", ""));
}

#[test]
fn distance_counts_where_traffic_is_distributed_by_it() {
    let rule = "---
kind: DestinationRule
apiVersion: networking.istio.io/v1
metadata: {name: web, namespace: demo}
spec: {host: web, trafficPolicy: {loadBalancer: {localityLbSetting: {distribute: [{from: r1/*, to: {r2/*: 100}}]}}}}
";
    let input = format!("{SERVICE}{rule}");
    let near = keys(&input, &client("demo", "r1"));
    assert_ne!(near.1, keys(&input, &client("demo", "r2")).1);
}

#[test]
fn distance_counts_once_failover_is_possible() {
    let input = format!("{SERVICE}{OUTLIERS}");
    let near = keys(&input, &client("demo", "r1"));
    let far = keys(&input, &client("demo", "r2"));
    assert_eq!(near.0, far.0);
    assert_ne!(near.1, far.1);
    assert_eq!(near, keys(&input, &client("other", "r1")));
}

#[test]
fn another_endpoint_of_the_same_identity_leaves_the_clusters_alone() {
    let one = keys(SERVICE, &client("demo", "r1"));
    let two = keys(
        &format!("{SERVICE}{SECOND_ENDPOINT}"),
        &client("demo", "r1"),
    );
    assert_eq!(one.0, two.0);
    assert_ne!(one.1, two.1);
}

#[test]
fn a_rule_changes_both() {
    let without = keys(SERVICE, &client("demo", "r1"));
    let with = keys(&format!("{SERVICE}{OUTLIERS}"), &client("demo", "r1"));
    assert_ne!(without.0, with.0);
    assert_ne!(without.1, with.1);
}
