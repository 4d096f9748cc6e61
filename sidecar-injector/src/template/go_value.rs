//! JSON as template values. Templates name members of structs as Go does (`.Spec.DNSPolicy`), and
//! keys of maps literally (`index .ObjectMeta.Labels "app"`).

use gotmpl::Value as GoValue;
use serde_json::{Map, Number, Value};
use std::collections::BTreeMap;
use std::sync::Arc;

/// Marks a map that represents a struct; not a key that occurs in JSON.
const STRUCT: &str = "\u{0}struct";

/// Members whose Go name is not the capitalized JSON name.
const NAMES: [(&str, &str); 18] = [
    ("apiVersion", "APIVersion"),
    ("csi", "CSI"),
    ("dnsConfig", "DNSConfig"),
    ("dnsPolicy", "DNSPolicy"),
    ("fc", "FC"),
    ("fsGroup", "FSGroup"),
    ("fsGroupChangePolicy", "FSGroupChangePolicy"),
    ("fsType", "FSType"),
    ("grpc", "GRPC"),
    ("httpGet", "HTTPGet"),
    ("httpHeaders", "HTTPHeaders"),
    ("iscsi", "ISCSI"),
    ("nfs", "NFS"),
    ("rbd", "RBD"),
    ("seLinuxOptions", "SELinuxOptions"),
    ("tcpSocket", "TCPSocket"),
    ("tty", "TTY"),
    ("uid", "UID"),
];

/// Members that hold a map instead of a struct.
const MAPS: [&str; 10] = [
    "annotations",
    "data",
    "labels",
    "limits",
    "matchLabels",
    "nodeSelector",
    "overhead",
    "proxyMetadata",
    "requests",
    "runtimeValues",
];

fn go_name(json_name: &str) -> String {
    if let Some((_, name)) = NAMES.iter().find(|(json, _)| *json == json_name) {
        return (*name).to_owned();
    }
    let mut chars = json_name.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_ascii_uppercase().to_string() + chars.as_str()
    })
}

fn json_name(go_name: &str) -> String {
    if let Some((name, _)) = NAMES.iter().find(|(_, go)| *go == go_name) {
        return (*name).to_owned();
    }
    let mut chars = go_name.chars();
    chars.next().map_or_else(String::new, |c| {
        c.to_ascii_lowercase().to_string() + chars.as_str()
    })
}

/// JSON in which all objects are maps.
pub(super) fn plain(value: &Value) -> GoValue {
    convert(value, false)
}

/// JSON in which objects are structs, except for members that are known to hold maps.
pub(super) fn structure(value: &Value) -> GoValue {
    convert(value, true)
}

fn convert(value: &Value, structs: bool) -> GoValue {
    match value {
        Value::Null => GoValue::Nil,
        Value::Bool(value) => GoValue::Bool(*value),
        Value::Number(number) => number
            .as_i64()
            .map(GoValue::Int)
            .or_else(|| number.as_f64().map(GoValue::Float))
            .unwrap_or(GoValue::Nil),
        Value::String(text) => GoValue::String(text.as_str().into()),
        Value::Array(items) => {
            GoValue::List(items.iter().map(|item| convert(item, structs)).collect())
        }
        Value::Object(members) => {
            let mut map: BTreeMap<Arc<str>, GoValue> = BTreeMap::new();
            if structs {
                map.insert(STRUCT.into(), GoValue::Bool(true));
            }
            for (key, value) in members {
                let nested = structs && !MAPS.contains(&key.as_str());
                let name = if structs { go_name(key) } else { key.clone() };
                map.insert(name.into(), convert(value, nested));
            }
            GoValue::Map(Arc::new(map))
        }
    }
}

/// The JSON of a template value; functions become `null`.
pub(super) fn to_json(value: &GoValue) -> Value {
    match value {
        GoValue::Bool(value) => Value::Bool(*value),
        GoValue::Int(number) => Value::from(*number),
        GoValue::Uint(number) => Value::from(*number),
        GoValue::Float(number) => Number::from_f64(*number).map_or(Value::Null, Value::Number),
        GoValue::String(text) => Value::from(text.as_ref()),
        GoValue::List(items) => Value::Array(items.iter().map(to_json).collect()),
        GoValue::Map(map) => {
            let is_struct = map.contains_key(STRUCT);
            let members = map.iter().filter(|(key, _)| key.as_ref() != STRUCT);
            let name = |key: &str| {
                if is_struct {
                    json_name(key)
                } else {
                    key.to_owned()
                }
            };
            Value::Object(
                members
                    .map(|(key, value)| (name(key), to_json(value)))
                    .collect::<Map<_, _>>(),
            )
        }
        _ => Value::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn structs_have_go_names_and_come_back_as_they_were() {
        let pod = json!({"dnsPolicy": "None", "hostIP": "x", "containers": [{"name": "a", "tty": true,
            "resources": {"limits": {"cpu": "1"}}, "ports": [{"containerPort": 80}]}],
            "labels": {"app": "a", "Upper": "b"}, "none": null, "f": 1.5});
        let value = structure(&pod);
        assert_eq!(
            value.field("DNSPolicy"),
            Some(&GoValue::String("None".into()))
        );
        assert!(value.field("Labels").unwrap().field("app").is_some());
        assert_eq!(to_json(&value), pod);
    }
}
