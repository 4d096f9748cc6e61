//! The proxies that come and go.

use istio_api::{
    envoy::config::core::v3::Node,
    json::{self, Unknown},
};
use pilot_model::{credential::Account, proxy::Proxy};
use serde_json::{Value, json};

pub(crate) const COUNT: u8 = 11;

fn node(kind: &str, ip: &str, namespace: &str, labels: &Value, more: &Value) -> Proxy {
    let mut metadata =
        json!({"NAMESPACE": namespace, "INSTANCE_IPS": ip, "LABELS": labels, "CLUSTER_ID": "one"});
    let mut locality = json!({});
    for (name, value) in more.as_object().into_iter().flatten() {
        if name == "region" {
            locality = json!({"region": value, "zone": "z1"});
        } else {
            metadata[name.as_str()] = value.clone();
        }
    }
    let node = json!({
        "id": format!("{kind}~{ip}~p.{namespace}~{namespace}.svc.cluster.local"),
        "metadata": metadata,
        "locality": locality,
    });
    let (node, _) = json::read::<Node>(&node, Unknown::Refuse).expect("a node");
    Proxy::parse(Some(&node)).expect("a proxy")
}

/// Proxy number `id` of [`COUNT`].
pub(crate) fn proxy(id: u8) -> Proxy {
    let none = json!({});
    match id {
        0 => node(
            "sidecar",
            "10.0.0.1",
            "a",
            &json!({"app": "x", "version": "v1"}),
            &none,
        ),
        1 => node(
            "sidecar",
            "10.0.0.2",
            "b",
            &json!({"app": "y"}),
            &json!({"region": "r1"}),
        ),
        2 => node(
            "sidecar",
            "10.0.0.3",
            "a",
            &json!({"app": "x"}),
            &json!({"region": "r2"}),
        ),
        3 => node(
            "sidecar",
            "10.0.0.4",
            "c",
            &none,
            &json!({"NODE_NAME": "node-1"}),
        ),
        4 => node(
            "sidecar",
            "10.0.0.5",
            "istio-system",
            &json!({"app": "x"}),
            &json!({"HTTP10": "1"}),
        ),
        5 => node(
            "sidecar",
            "10.0.0.6",
            "b",
            &json!({"app": "x"}),
            &json!({"INTERCEPTION_MODE": "NONE", "UNPRIVILEGED_POD": "true"}),
        ),
        6 => node(
            "sidecar",
            "10.0.0.8",
            "a",
            &json!({"app": "y", "team": "t"}),
            &json!({"NODE_NAME": "node-2", "INTERCEPTION_MODE": "TPROXY"}),
        ),
        7 => node("sidecar", "fd00::5", "b", &json!({"version": "v1"}), &none),
        8 => gateway(
            "10.0.0.7",
            "istio-system",
            &json!({"gw": "edge"}),
            Some("edge"),
        ),
        9 => gateway("10.0.0.9", "a", &json!({"gw": "edge", "app": "x"}), None),
        _ => gateway("10.0.0.10", "b", &json!({"gw": "other"}), Some("edge")),
    }
}

fn gateway(ip: &str, namespace: &str, labels: &Value, account: Option<&str>) -> Proxy {
    Proxy {
        verified: account.map(|name| Account::new(namespace, name)),
        ..node("router", ip, namespace, labels, &json!({"region": "r1"}))
    }
}
