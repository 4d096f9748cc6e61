//! Bodies whose messages differ between 1.1 and today: JSON becomes the bytes that a peer of 1.1
//! reads, and its bytes become that JSON.

use istio_api::collections::by_gvk;
use istio_api::json;
use istio_api::manifest::{self, FieldError, Found, Item, Metadata, Native};
use serde_json::{Value, json};

use crate::wire::{entry, int, message, text};

#[derive(Debug, PartialEq)]
enum Istio {}

impl Native for Istio {
    fn kind(_: &str, _: &str) -> Option<(&'static str, &'static str, bool)> {
        None
    }

    fn read(_: &str, _: &Metadata, _: &Value) -> Result<Self, FieldError> {
        unreachable!("unknown kind")
    }
}

/// The body of an object of `networking.istio.io` with this spec.
fn body(kind: &str, spec: &Value) -> Vec<u8> {
    let object = json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": kind,
        "metadata": {"name": "x", "namespace": "demo"},
        "spec": spec,
    });
    let mut found = manifest::read::<Istio>(&object);
    match found.remove(0).1 {
        Found::Object {
            item: Ok(Item::Config(config)),
            warnings,
            ..
        } => {
            assert_eq!(warnings, [], "unknown fields");
            config.body
        }
        other => panic!("{other:?}"),
    }
}

fn both_ways(kind: &str, spec: &Value, fields: &[Vec<u8>]) {
    let wire = fields.concat();
    assert_eq!(body(kind, spec), wire, "{kind} {spec}");
    let message = by_gvk("networking.istio.io", kind).unwrap().message;
    assert_eq!(json::write(message, &wire).unwrap(), *spec);
}

#[test]
fn envoy_filters_of_1_1() {
    let spec = json!({
        "workloadLabels": {"app": "shop"},
        "filters": [{
            "listenerMatch": {
                "portNumber": 9080,
                "portNamePrefix": "http",
                "listenerType": "SIDECAR_INBOUND",
                "listenerProtocol": "HTTP",
                "address": ["10.0.0.1", "10.0.0.2"],
            },
            "insertPosition": {"index": "BEFORE", "relativeTo": "envoy.router"},
            "filterType": "HTTP",
            "filterName": "envoy.lua",
            "filterConfig": {"inlineCode": "x"},
        }],
    });
    let listener = message(
        1,
        &[
            int(1, 9080),
            text(2, "http"),
            int(3, 1),
            int(4, 1),
            text(5, "10.0.0.1"),
            text(5, "10.0.0.2"),
        ],
    );
    let position = message(2, &[int(1, 2), text(2, "envoy.router")]);
    // A Struct is a map of names to values; field 3 of a value is a string.
    let config = message(
        5,
        &[message(
            1,
            &[text(1, "inlineCode"), message(2, &[text(3, "x")])],
        )],
    );
    let filter = message(
        2,
        &[listener, position, int(3, 1), text(4, "envoy.lua"), config],
    );
    both_ways("EnvoyFilter", &spec, &[entry(1, "app", "shop"), filter]);
}

#[test]
fn envoy_filters_of_now() {
    let spec = json!({
        "workloadSelector": {"labels": {"app": "shop"}},
        "configPatches": [{
            "applyTo": "LISTENER",
            "match": {"context": "GATEWAY", "listener": {
                "portNumber": 80, "portName": "http", "filterChain": {"name": "c"}, "name": "l",
                "listenerFilter": "f",
            }},
            "patch": {"operation": "REMOVE"},
        }],
        "priority": -1,
    });
    let listener = message(
        3,
        &[
            int(1, 80),
            text(2, "http"),
            message(3, &[text(1, "c")]),
            text(4, "l"),
            text(5, "f"),
        ],
    );
    let patch = message(
        4,
        &[
            int(1, 1),
            message(2, &[int(1, 3), listener]),
            message(3, &[int(1, 3)]),
        ],
    );
    let selector = message(3, &[entry(1, "app", "shop")]);
    both_ways("EnvoyFilter", &spec, &[selector, patch, int(10, -1)]);
}

fn balancer(simple: &str) -> Value {
    json!({"host": "a", "trafficPolicy": {"loadBalancer": {"simple": simple}}})
}

fn balancer_fields(simple: i64) -> Vec<Vec<u8>> {
    vec![text(1, "a"), message(2, &[message(1, &[int(1, simple)])])]
}

#[test]
fn balancers() {
    for (name, number) in [
        ("LEAST_CONN", 1),
        ("RANDOM", 2),
        ("PASSTHROUGH", 3),
        // A pilot of 1.1 knows neither of them, and uses round robin for both.
        ("ROUND_ROBIN", 4),
        ("LEAST_REQUEST", 5),
    ] {
        both_ways("DestinationRule", &balancer(name), &balancer_fields(number));
    }
}

#[test]
fn a_balancer_that_is_not_said_is_not_sent() {
    // A present 0 would be round robin to a peer of 1.1.
    let fields = [text(1, "a"), message(2, &[message(1, &[])])];
    assert_eq!(
        body("DestinationRule", &balancer("UNSPECIFIED")),
        fields.concat()
    );
}

#[test]
fn a_present_zero_stays_present() {
    // From a galley of 1.1, where it is round robin: pilot distinguishes it from an absent one.
    let wire = balancer_fields(0).concat();
    let rule: istio_api::networking::v1alpha3::DestinationRule =
        prost::Message::decode(wire.as_slice()).unwrap();
    let balancer = rule.traffic_policy.unwrap().load_balancer.unwrap();
    use istio_api::networking::v1alpha3::load_balancer_settings::LbPolicy;
    assert_eq!(balancer.lb_policy, Some(LbPolicy::Simple(0)));
}

#[test]
fn routes_of_1_1() {
    let spec = json!({
        "hosts": ["a"],
        "http": [{
            "route": [{
                "destination": {"host": "b"},
                "weight": 7,
                "removeResponseHeaders": ["r3"],
                "appendResponseHeaders": {"k4": "v4"},
                "removeRequestHeaders": ["r5"],
                "appendRequestHeaders": {"k6": "v6"},
            }],
            "websocketUpgrade": true,
            "fault": {"abort": {"percent": 50, "httpStatus": 503}},
            "appendHeaders": {"k11": "v11"},
            "removeResponseHeaders": ["r12"],
            "appendResponseHeaders": {"k13": "v13"},
            "removeRequestHeaders": ["r14"],
            "appendRequestHeaders": {"k15": "v15"},
        }],
    });
    let destination = message(
        2,
        &[
            message(1, &[text(1, "b")]),
            int(2, 7),
            text(3, "r3"),
            entry(4, "k4", "v4"),
            text(5, "r5"),
            entry(6, "k6", "v6"),
        ],
    );
    let route = message(
        3,
        &[
            destination,
            int(5, 1),
            message(8, &[message(2, &[int(1, 50), int(2, 503)])]),
            entry(11, "k11", "v11"),
            text(12, "r12"),
            entry(13, "k13", "v13"),
            text(14, "r14"),
            entry(15, "k15", "v15"),
        ],
    );
    both_ways("VirtualService", &spec, &[text(1, "a"), route]);
}

#[test]
fn ports_and_sources_of_1_1() {
    let spec = json!({
        "hosts": ["a"],
        "tls": [{
            "match": [{"sniHosts": ["a"], "sourceSubnet": "10.0.0.0/8"}],
            "route": [{"destination": {"host": "b", "port": {"name": "https"}}}],
        }],
    });
    let condition = message(1, &[text(1, "a"), text(4, "10.0.0.0/8")]);
    let port = message(3, &[text(2, "https")]);
    let route = message(2, &[message(1, &[text(1, "b"), port])]);
    both_ways(
        "VirtualService",
        &spec,
        &[text(1, "a"), message(5, &[condition, route])],
    );
}

#[test]
fn messages_that_only_changed_their_names() {
    // Server.TLSOptions, TLSSettings and ServiceEntry.Endpoint of 1.1.
    let gateway = json!({
        "servers": [{
            "port": {"number": 443, "protocol": "HTTPS", "name": "https"},
            "hosts": ["a"],
            "tls": {"mode": "SIMPLE", "serverCertificate": "c", "privateKey": "k",
                    "caCertificates": "r", "subjectAltNames": ["s"]},
        }],
        "selector": {"istio": "ingressgateway"},
    });
    let port = message(1, &[int(1, 443), text(2, "HTTPS"), text(3, "https")]);
    let tls = message(
        3,
        &[
            int(2, 1),
            text(3, "c"),
            text(4, "k"),
            text(5, "r"),
            text(6, "s"),
        ],
    );
    let fields = [
        message(1, &[port, text(2, "a"), tls]),
        entry(2, "istio", "ingressgateway"),
    ];
    both_ways("Gateway", &gateway, &fields);

    let rule = json!({
        "host": "a",
        "trafficPolicy": {"tls": {
            "mode": "MUTUAL", "clientCertificate": "c", "privateKey": "k", "caCertificates": "r",
            "subjectAltNames": ["s"], "sni": "n",
        }},
    });
    let tls = message(
        4,
        &[
            int(1, 2),
            text(2, "c"),
            text(3, "k"),
            text(4, "r"),
            text(5, "s"),
            text(6, "n"),
        ],
    );
    both_ways(
        "DestinationRule",
        &rule,
        &[text(1, "a"), message(2, &[tls])],
    );

    let entry_of_service = json!({
        "hosts": ["a"],
        "addresses": ["10.9.8.7"],
        "ports": [{"number": 9080, "protocol": "HTTP", "name": "http"}],
        "location": "MESH_INTERNAL",
        "resolution": "STATIC",
        "endpoints": [{"address": "127.0.0.1", "ports": {"http": 18080}, "labels": {"v": "1"},
                       "network": "n", "locality": "l", "weight": 3}],
    });
    let endpoint = message(
        6,
        &[
            text(1, "127.0.0.1"),
            message(2, &[text(1, "http"), int(2, 18080)]),
            entry(3, "v", "1"),
            text(4, "n"),
            text(5, "l"),
            int(6, 3),
        ],
    );
    let fields = [
        text(1, "a"),
        text(2, "10.9.8.7"),
        message(3, &[int(1, 9080), text(2, "HTTP"), text(3, "http")]),
        int(4, 1),
        int(5, 1),
        endpoint,
    ];
    both_ways("ServiceEntry", &entry_of_service, &fields);
}
