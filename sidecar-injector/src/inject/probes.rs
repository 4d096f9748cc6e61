//! Application probes through the agent. The kubelet has no certificate, so strict mutual TLS would
//! refuse its requests to captured ports; the agent runs the probes within the Pod.

use super::prometheus::parse_bool;
use crate::config::Config;
use crate::pod::{self, List, PROXY};
use serde_json::{Map, Value, json};
use std::collections::BTreeMap;

const VARIABLE: &str = "ISTIO_KUBE_APP_PROBERS";
const ANNOTATION: &str = "sidecar.istio.io/rewriteAppHTTPProbers";
const ACTIONS: [&str; 3] = ["httpGet", "tcpSocket", "grpc"];

/// Whether the Pod, or else the configuration, enables the rewriting of probes.
pub(super) fn wanted(pod: &Value, config: &Config) -> bool {
    pod::annotation(pod, ANNOTATION)
        .and_then(parse_bool)
        .unwrap_or_else(|| {
            config
                .value("/sidecarInjectorWebhook/rewriteAppHTTPProbe")
                .and_then(Value::as_bool)
                == Some(true)
        })
}

/// Redirects the probes of all containers except the proxy to the agent, and passes the original
/// ones to the agent.
pub(super) fn rewrite(pod: &mut Value, status_port: u16) {
    if status_port == 0 || pod::proxy(pod).is_none() {
        return;
    }
    let mut probers = BTreeMap::new();
    for list in [List::Containers, List::InitContainers] {
        if pod::containers(pod, list).is_empty() {
            continue;
        }
        for container in pod::containers_mut(pod, list) {
            if pod::name(container) != PROXY {
                rewrite_container(container, status_port, &mut probers);
            }
        }
    }
    let Some(proxy) = pod::proxy_mut(pod) else {
        return;
    };
    let earlier =
        pod::env(proxy, VARIABLE).and_then(|text| serde_json::from_str::<Value>(text).ok());
    if let Some(Value::Object(earlier)) = earlier {
        // The first record holds what the author wrote.
        probers.extend(earlier);
    }
    if !probers.is_empty() {
        let probers = Value::Object(probers.into_iter().collect());
        pod::set_env(proxy, VARIABLE, &pod::sorted_json(&probers));
    }
}

fn rewrite_container(
    container: &mut Value,
    status_port: u16,
    probers: &mut BTreeMap<String, Value>,
) {
    let name = pod::name(container).to_owned();
    let ports = named_ports(container);
    for (member, suffix) in [
        ("readinessProbe", "readyz"),
        ("livenessProbe", "livez"),
        ("startupProbe", "startupz"),
    ] {
        if let Some(probe) = container.get_mut(member).and_then(Value::as_object_mut) {
            let timeout = probe
                .get("timeoutSeconds")
                .and_then(Value::as_i64)
                .unwrap_or(0)
                .max(1);
            let path = format!("/app-health/{name}/{suffix}");
            if let Some(mut prober) = rewrite_action(probe, &path, &ports, status_port) {
                prober.insert("timeoutSeconds".to_owned(), Value::from(timeout));
                probers.insert(path, Value::Object(prober));
            }
        }
    }
    let Some(lifecycle) = container.get_mut("lifecycle") else {
        return;
    };
    for (member, suffix) in [("preStop", "prestopz"), ("postStart", "poststartz")] {
        if let Some(handler) = lifecycle.get_mut(member).and_then(Value::as_object_mut) {
            let path = format!("/app-lifecycle/{name}/{suffix}");
            if let Some(prober) = rewrite_action(handler, &path, &ports, status_port) {
                probers.insert(path, Value::Object(prober));
            }
        }
    }
}

fn named_ports(container: &Value) -> BTreeMap<String, i64> {
    container
        .get("ports")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter_map(|port| {
            Some((
                port.get("name")?.as_str()?.to_owned(),
                port.get("containerPort")?.as_i64()?,
            ))
        })
        .collect()
}

/// Replaces the action of a probe or handler and returns the original one for the agent. `None` if
/// the action does not use the network, goes to the agent already, or names a port that the
/// container does not declare (such a probe never works).
fn rewrite_action(
    handler: &mut Map<String, Value>,
    path: &str,
    ports: &BTreeMap<String, i64>,
    status_port: u16,
) -> Option<Map<String, Value>> {
    let kind = ACTIONS
        .into_iter()
        .find(|kind| handler.get(*kind).is_some_and(Value::is_object))?;
    let mut action = handler.get(kind)?.as_object()?.clone();
    let port = match action.get("port")? {
        Value::String(name) => match name.parse() {
            Ok(number) => number,
            Err(_) => *ports.get(name)?,
        },
        number => number.as_i64()?,
    };
    if port == i64::from(status_port) {
        return None;
    }
    action.insert("port".to_owned(), Value::from(port));
    let mut through_agent = if kind == "httpGet" {
        action.clone()
    } else {
        Map::new()
    };
    if kind == "httpGet" {
        // Default of the API server; manifests may omit it.
        action.entry("scheme").or_insert_with(|| json!("HTTP"));
    }
    through_agent.insert("path".to_owned(), Value::from(path));
    through_agent.insert("port".to_owned(), Value::from(status_port));
    if through_agent.get("scheme").and_then(Value::as_str) == Some("HTTPS") {
        through_agent.insert("scheme".to_owned(), json!("HTTP"));
    }
    handler.remove(kind);
    handler.insert("httpGet".to_owned(), Value::Object(through_agent));
    Some(Map::from_iter([(kind.to_owned(), Value::Object(action))]))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rewritten(container: Value) -> (Value, Option<Value>) {
        let mut pod = json!({"spec": {"containers": [container, {"name": "istio-proxy",
            "readinessProbe": {"httpGet": {"port": 15021}}}]}});
        let before = pod["spec"]["containers"][1].clone();
        rewrite(&mut pod, 15020);
        let probers = pod::env(&pod["spec"]["containers"][1], VARIABLE)
            .map(|text| serde_json::from_str(text).unwrap());
        assert_eq!(
            pod["spec"]["containers"][1]["readinessProbe"],
            before["readinessProbe"]
        );
        (pod["spec"]["containers"][0].clone(), probers)
    }

    #[test]
    fn every_kind_of_probe_goes_through_the_agent() {
        let (container, probers) = rewritten(
            json!({"name": "a", "ports": [{"name": "http", "containerPort": 80}],
            "readinessProbe": {"httpGet": {"port": "http", "scheme": "HTTPS", "host": "h", "httpHeaders": [{"name": "x"}]}, "periodSeconds": 3},
            "livenessProbe": {"tcpSocket": {"port": 90}, "timeoutSeconds": 2},
            "startupProbe": {"grpc": {"port": 91, "service": "s"}},
            "lifecycle": {"preStop": {"httpGet": {"port": 80, "path": "/bye"}}, "postStart": {"exec": {}}}}),
        );
        assert_eq!(
            container["readinessProbe"],
            json!({"periodSeconds": 3, "httpGet": {"port": 15020,
            "path": "/app-health/a/readyz", "scheme": "HTTP", "host": "h", "httpHeaders": [{"name": "x"}]}})
        );
        assert_eq!(
            container["livenessProbe"],
            json!({"timeoutSeconds": 2, "httpGet": {"port": 15020, "path": "/app-health/a/livez"}})
        );
        assert_eq!(container["lifecycle"]["postStart"], json!({"exec": {}}));
        let probers = probers.unwrap();
        assert_eq!(
            probers["/app-health/a/readyz"],
            json!({"timeoutSeconds": 1, "httpGet": {"port": 80,
            "scheme": "HTTPS", "host": "h", "httpHeaders": [{"name": "x"}]}})
        );
        assert_eq!(
            probers["/app-health/a/livez"],
            json!({"timeoutSeconds": 2, "tcpSocket": {"port": 90}})
        );
        assert_eq!(
            probers["/app-health/a/startupz"],
            json!({"timeoutSeconds": 1, "grpc": {"port": 91, "service": "s"}})
        );
        assert_eq!(
            probers["/app-lifecycle/a/prestopz"],
            json!({"httpGet": {"port": 80, "path": "/bye", "scheme": "HTTP"}})
        );
    }

    #[test]
    fn exec_and_unknown_ports_and_pods_without_probes_stay() {
        for container in [
            json!({"name": "a"}),
            json!({"name": "a", "livenessProbe": {"exec": {"command": ["true"]}}}),
            json!({"name": "a", "livenessProbe": {"httpGet": {"port": "nope"}}}),
        ] {
            assert_eq!(rewritten(container.clone()), (container, None));
        }
    }

    #[test]
    fn second_time_keeps_what_was_recorded() {
        let recorded = r#"{"/app-health/a/livez":{"tcpSocket":{"port":1}}}"#;
        let mut pod = json!({"spec": {"containers": [
            {"name": "a", "livenessProbe": {"tcpSocket": {"port": 2}}},
            {"name": "b", "livenessProbe": {"httpGet": {"port": 15020, "path": "/app-health/b/livez"}}},
            {"name": "istio-proxy", "env": [{"name": VARIABLE, "value": recorded}]}]}});
        rewrite(&mut pod, 15020);
        assert_eq!(
            pod::env(&pod["spec"]["containers"][2], VARIABLE),
            Some(recorded)
        );
    }
}
