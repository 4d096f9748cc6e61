//! Egress listeners of Sidecars that offer every port.

use crate::{compose, fixture::Fixture};

const PROXY: &str = "
id: sidecar~10.1.0.9~client.demo~demo.svc.cluster.local
metadata: {NAMESPACE: demo, INSTANCE_IPS: 10.1.0.9, LABELS: {app: client}}
";

const INPUT: &str = "
kind: SyntheticServiceEntry
metadata: {name: web, namespace: demo}
spec:
  hosts: [web.demo.svc.cluster.local]
  addresses: [10.96.0.10]
  location: MESH_INTERNAL
  resolution: STATIC
  ports: [{number: 80, name: http, protocol: HTTP}, {number: 81, name: more, protocol: HTTP}]
---
kind: Sidecar
apiVersion: networking.istio.io/v1
metadata: {name: default, namespace: demo}
spec:
  egress:
  - {port: {number: 3128, name: proxy, protocol: HTTP_PROXY}, bind: 127.0.0.1, hosts: [\"*/*\"]}
  - {port: {number: 0, name: socket, protocol: HTTP}, bind: \"unix:///run/x.sock\", hosts: [\"*/*\"]}
  - {port: {number: 90, name: tcp, protocol: TCP}, bind: 127.0.0.1, hosts: [\"*/*\"]}
";

/// A service of several ports is offered where the listener has no number to choose one by; any
/// other listener needs the number.
#[test]
fn proxies_and_sockets_offer_services_of_several_ports() {
    let all = compose::all(&Fixture::inline(INPUT, PROXY));
    let own = ["127.0.0.1_3128", "/run/x.sock_0", "127.0.0.1_90"];
    let made = own.map(|name| all.listeners.iter().any(|one| &*one.name == name));
    assert_eq!(made, [true, true, false]);
}

/// Requests of every port meet in the route configuration of an HTTP proxy.
#[test]
fn a_proxy_knows_the_hosts_that_are_no_services() {
    let vs = "---
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: {name: web, namespace: demo}
spec: {hosts: [nowhere.test], http: [{route: [{destination: {host: web}}]}]}
";
    let all = compose::all(&Fixture::inline(&format!("{INPUT}{vs}"), PROXY)).to_json();
    let routes = all["routes"].as_array().expect("a list");
    let route = routes.iter().map(ToString::to_string);
    let knows = route.filter(|route| route.contains("\"nowhere.test:80\""));
    let port = |route: &String| route.contains("\"name\":\"3128\"");
    assert!(knows.collect::<Vec<_>>().iter().any(port));
}
