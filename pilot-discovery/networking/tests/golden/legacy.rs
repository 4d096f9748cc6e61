//! Configuration of 1.1 gives what its counterpart of today gives.

use serde_json::Value;

use crate::{compose, envoy, fixture::Fixture};

const PROXY: &str = "id: sidecar~10.1.0.5~web.demo~demo.svc.cluster.local\n\
    metadata: {NAMESPACE: demo, INSTANCE_IPS: 10.1.0.5, LABELS: {app: web}}\n";

const SERVICE: &str = "
kind: SyntheticServiceEntry
metadata: {name: web, namespace: demo}
spec:
  hosts: [web.demo.svc.cluster.local]
  addresses: [10.96.0.10]
  location: MESH_INTERNAL
  resolution: STATIC
  ports:
  - {number: 80, name: http, protocol: HTTP, targetPort: 9080}
  - {number: 3306, name: tcp, protocol: TCP, targetPort: 3306}
  workloadSelector: {labels: {app: web}}
  endpoints:
  - {address: 10.1.0.5, ports: {http: 9080, tcp: 3306}, serviceAccount: web, labels: {app: web, security.istio.io/tlsMode: istio}}
---
";

/// Everything of the proxy, which Envoy takes.
fn resources(config: &str) -> Value {
    let all = compose::all(&Fixture::inline(&format!("{SERVICE}{config}"), PROXY));
    match envoy::binary() {
        Some(envoy) => envoy::validate(&envoy, &all).expect("Envoy takes it"),
        None => println!("SKIPPED: ENVOY_BIN names no Envoy, so nobody checked what it takes"),
    }
    all.to_json()
}

fn assert_same(older: &str, newer: &str) {
    let (older, newer) = (resources(older), resources(newer));
    assert_ne!(older, resources(""), "it changes something");
    assert_eq!(older, newer);
}

#[test]
fn policies_open_and_close_the_same_ports() {
    assert_same(
        "
kind: MeshPolicy
apiVersion: authentication.istio.io/v1alpha1
metadata: {name: default}
spec: {peers: [{mtls: {}}]}
---
kind: Policy
apiVersion: authentication.istio.io/v1alpha1
metadata: {name: database, namespace: demo}
spec: {targets: [{name: web, ports: [{number: 3306}]}]}
",
        "
kind: PeerAuthentication
apiVersion: security.istio.io/v1
metadata: {name: default, namespace: istio-system}
spec: {mtls: {mode: STRICT}}
---
kind: PeerAuthentication
apiVersion: security.istio.io/v1
metadata: {name: database, namespace: demo}
spec: {selector: {matchLabels: {app: web}}, portLevelMtls: {3306: {mode: DISABLE}}}
",
    );
}

/// A VirtualService for the service, with this as its only route.
fn route(fields: &str) -> String {
    format!(
        "
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: {{name: web, namespace: demo}}
spec: {{hosts: [web], http: [{{{fields}}}]}}
"
    )
}

#[test]
fn fields_of_routes_mean_the_same() {
    let to = "destination: {host: web, port: {number: 80}}";
    assert_same(
        &route(&format!(
            "appendHeaders: {{a: old, b: old}}, removeRequestHeaders: [c], \
             appendResponseHeaders: {{d: old}}, removeResponseHeaders: [e], websocketUpgrade: true, \
             headers: {{request: {{add: {{b: new}}}}}}, \
             fault: {{delay: {{percent: 7, fixedDelay: 1s}}, abort: {{percent: 3, httpStatus: 418}}}}, \
             route: [{{{to}, appendRequestHeaders: {{f: old}}, removeResponseHeaders: [g]}}]"
        )),
        &route(&format!(
            "headers: {{request: {{add: {{a: old, b: new}}, remove: [c]}}, \
             response: {{add: {{d: old}}, remove: [e]}}}}, \
             fault: {{delay: {{percentage: {{value: 7}}, fixedDelay: 1s}}, \
                      abort: {{percentage: {{value: 3}}, httpStatus: 418}}}}, \
             route: [{{{to}, headers: {{request: {{add: {{f: old}}}}, response: {{remove: [g]}}}}}}]"
        )),
    );
}

#[test]
fn the_source_of_connections_is_looked_at() {
    let config = "
kind: VirtualService
apiVersion: networking.istio.io/v1
metadata: {name: web, namespace: demo}
spec:
  hosts: [web]
  tcp:
  - match: [{sourceSubnet: 10.1.0.0/24}]
    route: [{destination: {host: web, port: {number: 3306}}}]
";
    let text = resources(config)["listeners"].to_string();
    assert!(text.contains(r#""sourcePrefixRanges":[{"addressPrefix":"10.1.0.0","prefixLen":24}]"#));
}

/// A DestinationRule for the service that balances by `number` of the enumeration.
fn balancer(number: u32) -> String {
    format!(
        "
kind: DestinationRule
apiVersion: networking.istio.io/v1
metadata: {{name: web, namespace: demo}}
spec: {{host: web, trafficPolicy: {{loadBalancer: {{simple: {number}}}}}}}
"
    )
}

#[test]
fn numbers_of_balancers_mean_the_same() {
    let [
        round_robin,
        least_connections,
        newer_round_robin,
        least_requests,
    ] = [0, 1, 4, 5].map(|number| resources(&balancer(number))["clusters"].clone());
    assert_eq!(round_robin, newer_round_robin);
    assert_eq!(least_connections, least_requests);
    assert_ne!(round_robin, least_requests);
}
