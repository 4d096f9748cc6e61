//! Functions of templates: those of Istio's injection templates, the ones of sprig that these use,
//! and four additional ones (`portList`, `podPorts`, `appContainers`, `rangeable`).

use super::go_value::{plain, to_json};
use crate::mesh_config::Mesh;
use crate::pod::{INIT, PROXY, VALIDATION, sorted_json};
use gotmpl::{FuncMap, TemplateError, Value as GoValue};
use serde_json::{Map, Value};
use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::sync::Arc;

type Result = std::result::Result<GoValue, TemplateError>;
type Function = fn(&[GoValue]) -> Result;

/// All functions by name.
pub(super) fn all() -> FuncMap {
    let functions: [(&str, Function); 74] = [
        ("annotation", annotation),
        ("isset", isset),
        ("valueOrDefault", value_or_default),
        ("excludeInboundPort", exclude_inbound_port),
        ("includeInboundPorts", |args| container_ports(args, false)),
        ("applicationPorts", |args| container_ports(args, true)),
        ("kubevirtInterfaces", identity),
        ("excludeInterfaces", identity),
        ("formatDuration", identity),
        ("toJSON", to_json_text),
        ("toJson", to_json_text),
        ("fromJSON", from_json),
        ("fromJson", from_json),
        ("toYaml", to_yaml),
        ("indent", indent),
        ("nindent", nindent),
        ("directory", directory),
        ("structToJSON", struct_to_json),
        ("protoToJSON", proto_to_json),
        ("contains", |args| {
            Ok(GoValue::Bool(
                arg_text(args, 1).contains(&arg_text(args, 0)),
            ))
        }),
        ("toLower", |args| {
            Ok(string(arg_text(args, 0).to_lowercase()))
        }),
        ("lower", |args| Ok(string(arg_text(args, 0).to_lowercase()))),
        ("upper", |args| Ok(string(arg_text(args, 0).to_uppercase()))),
        ("env", |args| Ok(arg(args, 1))),
        ("omit", omit),
        ("omitNil", omit_nil),
        ("strdict", dict),
        ("dict", dict),
        ("mergeMaps", merge_maps),
        ("toJsonMap", |args| {
            Ok(string(sorted_json(&to_json(&merge_maps(args)?))))
        }),
        ("appendMultusNetwork", append_multus_network),
        ("default", |args| {
            Ok(if arg(args, 1).is_truthy() {
                arg(args, 1)
            } else {
                arg(args, 0)
            })
        }),
        ("coalesce", |args| {
            Ok(args
                .iter()
                .find(|v| v.is_truthy())
                .cloned()
                .unwrap_or(GoValue::Nil))
        }),
        ("ternary", |args| {
            Ok(if arg(args, 2).is_truthy() {
                arg(args, 0)
            } else {
                arg(args, 1)
            })
        }),
        ("empty", |args| Ok(GoValue::Bool(!arg(args, 0).is_truthy()))),
        ("quote", |args| {
            Ok(string(
                args.iter().map(quoted).collect::<Vec<_>>().join(" "),
            ))
        }),
        ("squote", |args| {
            Ok(string(format!(
                "'{}'",
                arg_text(args, 0).replace('\'', "''")
            )))
        }),
        ("trunc", trunc),
        ("trim", |args| {
            Ok(string(arg_text(args, 0).trim().to_owned()))
        }),
        ("trimSuffix", |args| {
            Ok(trimmed(args, |whole, part| whole.strip_suffix(part)))
        }),
        ("trimPrefix", |args| {
            Ok(trimmed(args, |whole, part| whole.strip_prefix(part)))
        }),
        ("trimAll", |args| {
            let cut = arg_text(args, 0);
            Ok(string(
                arg_text(args, 1)
                    .trim_matches(|c| cut.contains(c))
                    .to_owned(),
            ))
        }),
        // The attributes come from a mesh setting that does not exist here.
        ("otelResourceAttributes", |_| Ok(string(String::new()))),
        ("hasPrefix", |args| {
            Ok(GoValue::Bool(
                arg_text(args, 1).starts_with(&arg_text(args, 0)),
            ))
        }),
        ("hasSuffix", |args| {
            Ok(GoValue::Bool(
                arg_text(args, 1).ends_with(&arg_text(args, 0)),
            ))
        }),
        ("replace", |args| {
            Ok(string(
                arg_text(args, 2).replace(&arg_text(args, 0), &arg_text(args, 1)),
            ))
        }),
        ("join", join),
        ("split", split),
        ("splitList", split),
        ("list", |args| Ok(GoValue::List(args.into()))),
        ("append", append),
        ("prepend", prepend),
        ("concat", |args| {
            Ok(GoValue::List(args.iter().flat_map(items).collect()))
        }),
        ("first", |args| {
            Ok(items(&arg(args, 0))
                .first()
                .cloned()
                .unwrap_or(GoValue::Nil))
        }),
        ("last", |args| {
            Ok(items(&arg(args, 0)).last().cloned().unwrap_or(GoValue::Nil))
        }),
        ("rest", |args| {
            Ok(GoValue::List(
                items(&arg(args, 0)).into_iter().skip(1).collect(),
            ))
        }),
        ("uniq", uniq),
        ("has", |args| {
            Ok(GoValue::Bool(items(&arg(args, 1)).contains(&arg(args, 0))))
        }),
        ("hasKey", |args| isset(args)),
        ("get", |args| {
            Ok(arg(args, 0)
                .field(&arg_text(args, 1))
                .cloned()
                .unwrap_or_else(|| string(String::new())))
        }),
        ("keys", |args| {
            Ok(GoValue::List(
                map_of(&arg(args, 0))
                    .into_keys()
                    .map(GoValue::String)
                    .collect(),
            ))
        }),
        ("values", |args| {
            Ok(GoValue::List(map_of(&arg(args, 0)).into_values().collect()))
        }),
        ("toString", |args| Ok(string(arg_text(args, 0)))),
        ("int", int),
        ("int64", int),
        ("atoi", int),
        ("add", |args| {
            Ok(GoValue::Int(
                args.iter().map(number).fold(0, i64::saturating_add),
            ))
        }),
        ("sub", |args| {
            Ok(GoValue::Int(
                number(&arg(args, 0)).saturating_sub(number(&arg(args, 1))),
            ))
        }),
        ("b64enc", b64enc),
        ("fail", |args| Err(TemplateError::Exec(arg_text(args, 0)))),
        ("portList", |args| {
            Ok(string(port_list(&arg_text(args, 0)).join(",")))
        }),
        ("podPorts", pod_ports),
        ("appContainers", app_containers),
        ("rangeable", |args| {
            Ok(match arg(args, 0) {
                GoValue::Nil => GoValue::List([].into()),
                value => value,
            })
        }),
    ];
    functions
        .into_iter()
        .map(|(name, function)| (name.to_owned(), Arc::new(function) as gotmpl::ValueFunc))
        .collect()
}

fn arg(args: &[GoValue], index: usize) -> GoValue {
    args.get(index).cloned().unwrap_or(GoValue::Nil)
}

/// Text of a value; empty for a missing one.
fn text(value: &GoValue) -> String {
    match value {
        GoValue::Nil => String::new(),
        GoValue::String(text) => text.to_string(),
        other => other.to_string(),
    }
}

fn arg_text(args: &[GoValue], index: usize) -> String {
    text(&arg(args, index))
}

fn string(text: String) -> GoValue {
    GoValue::String(text.into())
}

fn items(value: &GoValue) -> Vec<GoValue> {
    match value {
        GoValue::List(items) => items.to_vec(),
        _ => Vec::new(),
    }
}

fn map_of(value: &GoValue) -> BTreeMap<Arc<str>, GoValue> {
    match value {
        GoValue::Map(map) => map.as_ref().clone(),
        _ => BTreeMap::new(),
    }
}

fn number(value: &GoValue) -> i64 {
    match value {
        GoValue::Int(number) => *number,
        GoValue::Float(number) => *number as i64,
        other => text(other).trim().parse().unwrap_or(0),
    }
}

fn identity(args: &[GoValue]) -> Result {
    Ok(arg(args, 0))
}

fn int(args: &[GoValue]) -> Result {
    Ok(GoValue::Int(number(&arg(args, 0))))
}

/// `annotation meta name default`: the annotation, or the default as text.
fn annotation(args: &[GoValue]) -> Result {
    let meta = arg(args, 0);
    let value = meta
        .field("Annotations")
        .and_then(|map| map.field(&arg_text(args, 1)));
    Ok(value.cloned().unwrap_or_else(|| string(arg_text(args, 2))))
}

fn isset(args: &[GoValue]) -> Result {
    Ok(GoValue::Bool(
        arg(args, 0).field(&arg_text(args, 1)).is_some(),
    ))
}

fn value_or_default(args: &[GoValue]) -> Result {
    let value = arg(args, 0);
    let absent = matches!(value, GoValue::Nil) || value.as_str() == Some("");
    Ok(if absent { arg(args, 1) } else { value })
}

fn port_list(text: &str) -> Vec<String> {
    text.split(',')
        .map(str::trim)
        .filter(|item| !item.is_empty())
        .map(str::to_owned)
        .collect()
}

/// Appends a port to a comma-separated list unless it is empty, 0 or in the list already.
fn exclude_inbound_port(args: &[GoValue]) -> Result {
    let port = arg_text(args, 0).trim().to_owned();
    let mut list = port_list(&arg_text(args, 1));
    if !port.is_empty() && port != "0" && !list.contains(&port) {
        list.push(port);
    }
    Ok(string(list.join(",")))
}

/// TCP ports of containers as a comma-separated list.
fn container_ports(args: &[GoValue], skip_proxy: bool) -> Result {
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

fn to_json_text(args: &[GoValue]) -> Result {
    let value = arg(args, 0);
    let json = if matches!(value, GoValue::Nil) {
        Value::Object(Map::new())
    } else {
        to_json(&value)
    };
    Ok(string(sorted_json(&json)))
}

fn from_json(args: &[GoValue]) -> Result {
    serde_json::from_str(&arg_text(args, 0))
        .map(|value: Value| plain(&value))
        .map_err(|error| TemplateError::Exec(format!("fromJSON: {error}")))
}

fn to_yaml(args: &[GoValue]) -> Result {
    serde_yaml::to_string(&to_json(&arg(args, 0)))
        .map(|text| string(text.trim_end().to_owned()))
        .map_err(|error| TemplateError::Exec(format!("toYaml: {error}")))
}

fn indented(width: i64, text: &str) -> String {
    let width = usize::try_from(width).unwrap_or(0).min(1000);
    text.replace('\n', &format!("\n{}", " ".repeat(width)))
}

/// Indents all lines except the first.
fn indent(args: &[GoValue]) -> Result {
    Ok(string(indented(number(&arg(args, 0)), &arg_text(args, 1))))
}

/// A newline, then all lines indented.
fn nindent(args: &[GoValue]) -> Result {
    Ok(string(indented(
        number(&arg(args, 0)),
        &format!("\n{}", arg_text(args, 1)),
    )))
}

/// The part of a path up to the last slash.
fn directory(args: &[GoValue]) -> Result {
    let path = arg_text(args, 0);
    Ok(string(
        path.rfind('/')
            .and_then(|at| path.get(..=at))
            .unwrap_or_default()
            .to_owned(),
    ))
}

fn struct_to_json(args: &[GoValue]) -> Result {
    let json = to_json(&arg(args, 0));
    Ok(string(if json.get("containerPort").is_some() {
        port_json(&json)
    } else {
        sorted_json(&json)
    }))
}

/// A proxy configuration without default values.
fn proto_to_json(args: &[GoValue]) -> Result {
    let json = match to_json(&arg(args, 0)) {
        Value::Object(mut config) => {
            config.retain(|_, value| value.as_object().is_none_or(|map| !map.is_empty()));
            Value::Object(Mesh::without_defaults(&config))
        }
        other => other,
    };
    Ok(string(sorted_json(&json)))
}

fn omit(args: &[GoValue]) -> Result {
    let mut map = map_of(&arg(args, 0));
    for key in args.iter().skip(1) {
        map.remove(text(key).as_str());
    }
    Ok(GoValue::Map(Arc::new(map)))
}

fn omit_nil(args: &[GoValue]) -> Result {
    let mut map = map_of(&arg(args, 0));
    map.retain(|_, value| !matches!(value, GoValue::Nil));
    Ok(GoValue::Map(Arc::new(map)))
}

fn dict(args: &[GoValue]) -> Result {
    let map = args
        .chunks(2)
        .map(|pair| (Arc::from(arg_text(pair, 0)), arg(pair, 1)))
        .collect::<BTreeMap<_, _>>();
    Ok(GoValue::Map(Arc::new(map)))
}

fn merge_maps(args: &[GoValue]) -> Result {
    let map = args.iter().flat_map(map_of).collect::<BTreeMap<_, _>>();
    Ok(GoValue::Map(Arc::new(map)))
}

/// Adds a network to the annotation of the Multus plugin, which is a comma-separated or a JSON
/// list.
fn append_multus_network(args: &[GoValue]) -> Result {
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

/// A double-quoted text that means the same in JSON and YAML: characters that YAML does not accept
/// literally are escaped.
fn quoted(value: &GoValue) -> String {
    let mut out = String::from('"');
    for c in text(value).chars() {
        match c {
            '"' => out.push_str("\\\""),
            '\\' => out.push_str("\\\\"),
            '\n' => out.push_str("\\n"),
            '\r' => out.push_str("\\r"),
            '\t' => out.push_str("\\t"),
            c if c.is_control()
                || matches!(
                    c,
                    '\u{2028}' | '\u{2029}' | '\u{feff}' | '\u{fffe}' | '\u{ffff}'
                ) =>
            {
                // Writing to a String cannot fail.
                let _infallible = write!(out, "\\u{:04x}", u32::from(c));
            }
            c => out.push(c),
        }
    }
    out.push('"');
    out
}

/// `trunc n s`: the first n characters, or the last -n.
fn trunc(args: &[GoValue]) -> Result {
    let length = number(&arg(args, 0));
    let text = arg_text(args, 1);
    let count = text.chars().count();
    let wanted = usize::try_from(length.unsigned_abs()).unwrap_or(usize::MAX);
    Ok(string(if length >= 0 {
        text.chars().take(wanted).collect()
    } else {
        text.chars().skip(count.saturating_sub(wanted)).collect()
    }))
}

fn trimmed(args: &[GoValue], strip: for<'a> fn(&'a str, &str) -> Option<&'a str>) -> GoValue {
    let (part, whole) = (arg_text(args, 0), arg_text(args, 1));
    string(strip(&whole, part.as_str()).unwrap_or(&whole).to_owned())
}

fn join(args: &[GoValue]) -> Result {
    let parts: Vec<String> = items(&arg(args, 1)).iter().map(text).collect();
    Ok(string(parts.join(&arg_text(args, 0))))
}

fn split(args: &[GoValue]) -> Result {
    let (separator, whole) = (arg_text(args, 0), arg_text(args, 1));
    Ok(GoValue::List(
        whole
            .split(separator.as_str())
            .map(|part| string(part.to_owned()))
            .collect(),
    ))
}

fn append(args: &[GoValue]) -> Result {
    let mut list = items(&arg(args, 0));
    list.push(arg(args, 1));
    Ok(GoValue::List(list.into()))
}

fn prepend(args: &[GoValue]) -> Result {
    let mut list = items(&arg(args, 0));
    list.insert(0, arg(args, 1));
    Ok(GoValue::List(list.into()))
}

fn uniq(args: &[GoValue]) -> Result {
    let mut seen: Vec<GoValue> = Vec::new();
    for item in items(&arg(args, 0)) {
        if !seen.contains(&item) {
            seen.push(item);
        }
    }
    Ok(GoValue::List(seen.into()))
}

fn b64enc(args: &[GoValue]) -> Result {
    use base64::Engine as _;
    Ok(string(
        base64::engine::general_purpose::STANDARD.encode(arg_text(args, 0)),
    ))
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
fn pod_ports(args: &[GoValue]) -> Result {
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
fn app_containers(args: &[GoValue]) -> Result {
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
