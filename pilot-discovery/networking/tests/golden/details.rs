//! Details that no scenario shows.

use crate::{compose, fixture::Fixture};

const WEB: &str = "
kind: SyntheticServiceEntry
metadata: {name: web, namespace: demo}
spec:
  hosts: [web.demo.svc.cluster.local]
  addresses: [10.96.0.10]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 53, name: dns, protocol: UDP}]
  endpoints: [{address: 10.1.0.9, ports: {http: 8080, dns: 5353}}]
";

fn proxy(more: &str) -> String {
    format!(
        "id: sidecar~10.1.0.9~web.demo~demo.svc.cluster.local\n\
         metadata: {{NAMESPACE: demo, INSTANCE_IPS: 10.1.0.9, LABELS: {{app: web}}{more}}}\n"
    )
}

/// The resources of one type, as JSON.
fn text(input: &str, proxy: &str, kind: &str) -> String {
    let all = compose::all(&Fixture::inline(input, proxy)).to_json();
    all[kind].to_string()
}

#[test]
fn inbound_ports_are_those_that_are_captured_and_speak_tcp() {
    let clusters = text(WEB, &proxy(""), "clusters");
    assert!(clusters.contains("inbound|8080|") && !clusters.contains("inbound|5353|"));
    let listeners = text(WEB, &proxy(""), "listeners");
    assert!(listeners.contains("0.0.0.0_8080") && !listeners.contains("0.0.0.0_5353"));
    let without = text(WEB, &proxy(", INTERCEPTION_MODE: NONE"), "listeners");
    assert!(!without.contains("_8080"));
}

#[test]
fn services_that_disagree_about_a_port_are_reported() {
    let other = "
---
kind: SyntheticServiceEntry
metadata: {name: raw, namespace: demo}
spec:
  hosts: [raw.demo.svc.cluster.local]
  addresses: [10.96.0.11]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 90, name: tcp, protocol: TCP}]
  endpoints: [{address: 10.1.0.9, ports: {tcp: 8080}}]
";
    let is_reported = |more: &str| {
        let skipped = text(&format!("{WEB}{other}"), &proxy(more), "skipped");
        skipped.contains("pilot_conflict_inbound_listener")
    };
    assert!(is_reported(""));
    assert!(
        !is_reported(", INTERCEPTION_MODE: NONE"),
        "nothing is captured"
    );
}

#[test]
fn an_ingress_port_of_another_address_is_another_port() {
    let sidecar = "
---
kind: Sidecar
apiVersion: networking.istio.io/v1
metadata: {name: default, namespace: demo}
spec:
  ingress:
  - {port: {number: 9000, name: http, protocol: HTTP}, defaultEndpoint: \"127.0.0.1:1\"}
  - {port: {number: 9000, name: own, protocol: TCP}, bind: 127.0.0.1, captureMode: NONE, defaultEndpoint: \"127.0.0.1:3\"}
";
    let listeners = text(&format!("{WEB}{sidecar}"), &proxy(""), "listeners");
    let socket = listeners.contains("\"127.0.0.1_9000\"");
    assert!(socket && listeners.contains("\"0.0.0.0_9000\""));
}

#[test]
fn nothing_listens_when_the_mesh_says_so() {
    let mesh = "
---
kind: MeshConfig
spec: {proxyListenPort: -1}
";
    let listeners = text(&format!("{WEB}{mesh}"), &proxy(""), "listeners");
    assert_eq!(listeners, "[]");
}

/// What a ServiceEntry declares counts beside the accounts of its endpoints.
#[test]
fn servers_may_have_the_names_that_a_service_declares() {
    let entry = "
kind: ServiceEntry
apiVersion: networking.istio.io/v1
metadata: {name: one, namespace: demo}
spec:
  hosts: [one.test]
  location: MESH_INTERNAL
  resolution: STATIC
  subjectAltNames: [spiffe://cluster.local/ns/demo/sa/declared]
  ports: [{number: 80, name: http, protocol: HTTP}]
  endpoints: [{address: 10.1.0.7, serviceAccount: used}]
";
    let clusters = text(entry, &proxy(""), "clusters");
    for name in ["declared", "used"] {
        let name = format!("spiffe://cluster.local/ns/demo/sa/{name}");
        assert!(clusters.contains(&name), "{name}");
    }
}

/// At ports of the services that a wildcard covers, these have virtual hosts of their own.
#[test]
fn a_wildcard_leaves_the_ports_of_its_services_to_them() {
    let vs = "
---
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: {name: all, namespace: demo}
spec:
  hosts: [\"*.demo.svc.cluster.local\"]
  http: [{route: [{destination: {host: web.demo.svc.cluster.local}}]}]
";
    let routes = text(&format!("{WEB}{vs}"), &proxy(""), "routes");
    assert!(routes.contains("\"web.demo.svc.cluster.local:80\""));
    assert!(!routes.contains("\"*.demo.svc.cluster.local"));
}

#[test]
fn routes_of_other_clients_are_left_out() {
    let routes = |matches: &str| {
        let to = "route: [{destination: {host: web}}]";
        let vs = format!(
            "---\nkind: VirtualService\napiVersion: networking.istio.io/v1\n\
             metadata: {{name: web, namespace: demo}}\n\
             spec: {{hosts: [web], http: [{{match: [{matches}], {to}}}]}}\n"
        );
        text(&format!("{WEB}{vs}"), &proxy(""), "routes").contains("/asked")
    };
    assert!(routes("{sourceNamespace: demo, uri: {prefix: /asked}}"));
    assert!(!routes("{sourceNamespace: other, uri: {prefix: /asked}}"));
    assert!(routes("{sourceLabels: {app: web}, uri: {prefix: /asked}}"));
    assert!(!routes("{sourceLabels: {app: db}, uri: {prefix: /asked}}"));
}
