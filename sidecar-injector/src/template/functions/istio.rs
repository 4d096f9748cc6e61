//! Functions of Istio's injection templates, and the four additional ones.

use super::arguments::{Result, arg, arg_text, map_of, string};
use crate::mesh_config::Mesh;
use crate::pod::{INIT, PROXY, VALIDATION, sorted_json};
use crate::template::go_value::to_json;
use gotmpl::Value as GoValue;
use serde_json::Value;
use std::collections::BTreeMap;
use std::sync::Arc;

pub(super) fn identity(args: &[GoValue]) -> Result {
    Ok(arg(args, 0))
}

/// `annotation meta name default`: the annotation, or the default as text.
pub(super) fn annotation(args: &[GoValue]) -> Result {
    let meta = arg(args, 0);
    let value = meta
        .field("Annotations")
        .and_then(|map| map.field(&arg_text(args, 1)));
    Ok(value.cloned().unwrap_or_else(|| string(arg_text(args, 2))))
}

pub(super) fn isset(args: &[GoValue]) -> Result {
    Ok(GoValue::Bool(
        arg(args, 0).field(&arg_text(args, 1)).is_some(),
    ))
}

pub(super) fn value_or_default(args: &[GoValue]) -> Result {
    let value = arg(args, 0);
    let absent = matches!(value, GoValue::Nil) || value.as_str() == Some("");
    Ok(if absent { arg(args, 1) } else { value })
}

pub(super) fn port_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Appends a port to a comma-separated list unless it is empty, 0 or in the list already.
pub(super) fn exclude_inbound_port(args: &[GoValue]) -> Result {
    let port = arg_text(args, 0).trim().to_owned();
    let mut list = port_list(&arg_text(args, 1));
    if !port.is_empty() && port != "0" && !list.contains(&port) {
        list.push(port);
    }
    Ok(string(list.join(",")))
}

/// TCP ports of containers as a comma-separated list.
pub(super) fn container_ports(args: &[GoValue], skip_proxy: bool) -> Result {
    let containers = to_json(&arg(args, 0));
    let ports: Vec<String> = containers
        .as_array()
        .into_iter()
        .flatten()
        .filter(|container| !(skip_proxy && crate::pod::name(container) == PROXY))
        .filter_map(|container| container.get("ports")?.as_array())
        .flatten()
        .filter(|port| {
            matches!(
                port.get("protocol").and_then(Value::as_str),
                None | Some("TCP")
            )
        })
        .filter_map(|port| port.get("containerPort")?.as_i64())
        .map(|port| port.to_string())
        .collect();
    Ok(string(ports.join(",")))
}

/// The part of a path up to the last slash.
pub(super) fn directory(args: &[GoValue]) -> Result {
    let path = arg_text(args, 0);
    Ok(string(
        path.rfind('/')
            .and_then(|at| path.get(..=at))
            .unwrap_or_default()
            .to_owned(),
    ))
}

pub(super) fn struct_to_json(args: &[GoValue]) -> Result {
    let json = to_json(&arg(args, 0));
    Ok(string(if json.get("containerPort").is_some() {
        port_json(&json)
    } else {
        sorted_json(&json)
    }))
}

/// A proxy configuration without default values.
pub(super) fn proto_to_json(args: &[GoValue]) -> Result {
    let json = match to_json(&arg(args, 0)) {
        Value::Object(mut config) => {
            config.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
            Value::Object(Mesh::without_defaults(&config))
        }
        other => other,
    };
    Ok(string(sorted_json(&json)))
}

pub(super) fn merge_maps(args: &[GoValue]) -> Result {
    let map = args.iter().flat_map(map_of).collect::<BTreeMap<_, _>>();
    Ok(GoValue::Map(Arc::new(map)))
}

/// Adds a network to the annotation of the Multus plugin, which is a comma-separated or a JSON
/// list.
pub(super) fn append_multus_network(args: &[GoValue]) -> Result {
    let (existing, network) = (arg_text(args, 0), arg_text(args, 1));
    let list = serde_json::from_str::<Value>(&existing);
    Ok(string(match list {
        Ok(Value::Array(mut networks)) => {
            let named = |item: &Value| item.get("name").and_then(Value::as_str) == Some(&network);
            if !networks.iter().any(named) {
                networks.push(serde_json::json!({"name": network}));
            }
            Value::Array(networks).to_string()
        }
        _ => {
            let mut networks = port_list(&existing);
            if !networks.contains(&network) {
                networks.push(network);
            }
            networks.join(", ")
        }
    }))
}

/// A container port with its members in the order of the Kubernetes API.
fn port_json(port: &Value) -> String {
    let members: Vec<String> = ["name", "hostPort", "containerPort", "protocol", "hostIP"]
        .iter()
        .filter_map(|key| match (port.get(*key), *key) {
            // The API server fills in this default; manifests may omit it.
            (None, "protocol") => Some("\"protocol\":\"TCP\"".to_owned()),
            (value, key) => value.map(|value| format!("\"{key}\":{value}")),
        })
        .collect();
    format!("{{{}}}", members.join(","))
}

fn is_injected(name: &str) -> bool {
    matches!(name, PROXY | INIT | VALIDATION)
}

/// Ports of all containers except the proxy, as a JSON list.
pub(super) fn pod_ports(args: &[GoValue]) -> Result {
    let spec = to_json(&arg(args, 0));
    let ports: Vec<String> = spec
        .get("containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .filter(|container| !is_injected(crate::pod::name(container)))
        .filter_map(|container| container.get("ports")?.as_array())
        .flatten()
        .map(port_json)
        .collect();
    Ok(string(format!("[{}]", ports.join(","))))
}

/// Names of all containers except the proxy.
pub(super) fn app_containers(args: &[GoValue]) -> Result {
    let spec = to_json(&arg(args, 0));
    let names = spec
        .get("containers")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(crate::pod::name)
        .filter(|name| !is_injected(name))
        .map(|name| string(name.to_owned()));
    Ok(GoValue::List(names.collect()))
}
