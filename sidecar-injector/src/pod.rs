//! Access to a Pod that is kept as JSON, so that unknown fields are preserved.

use crate::refusal::Refusal;
use serde_json::{Map, Value};
use std::collections::BTreeMap;

/// Name of the proxy's container.
pub const PROXY: &str = "istio-proxy";
/// Name of the init container that sets up traffic capture.
pub const INIT: &str = "istio-init";
/// Name of the init container that validates traffic capture.
pub const VALIDATION: &str = "istio-validation";
/// Name of the init container that enables core dumps of the proxy.
pub const CORE_DUMP: &str = "enable-core-dump";

/// A list of containers in a Pod's spec.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum List {
    /// `spec.containers`.
    Containers,
    /// `spec.initContainers`.
    InitContainers,
}

impl List {
    /// Name of the member of `spec`.
    pub fn member(self) -> &'static str {
        match self {
            Self::Containers => "containers",
            Self::InitContainers => "initContainers",
        }
    }
}

/// Checks that the object is a Pod: all fields that this program reads must have the right type.
pub(crate) fn check_shape(pod: &Value) -> Result<(), Refusal> {
    let wrong = |path: &str, wanted| Refusal::Shape {
        path: path.to_owned(),
        wanted,
    };
    if !pod.is_object() {
        return Err(wrong("the object", "an object"));
    }
    let kind = pod.get("kind").and_then(Value::as_str);
    if kind.is_some_and(|kind| kind != "Pod") {
        return Err(Refusal::NotAPod(kind.unwrap_or_default().to_owned()));
    }
    let metadata = pod.get("metadata").unwrap_or(&Value::Null);
    if !metadata.is_object() && !metadata.is_null() {
        return Err(wrong("metadata", "an object"));
    }
    for member in ["labels", "annotations"] {
        match metadata.get(member) {
            None | Some(Value::Null) => {}
            Some(Value::Object(map)) => {
                if let Some((key, _)) = map.iter().find(|(_, value)| !value.is_string()) {
                    return Err(wrong(&format!("metadata.{member}[{key}]"), "a string"));
                }
            }
            Some(_) => return Err(wrong(&format!("metadata.{member}"), "an object")),
        }
    }
    for member in ["name", "generateName", "namespace"] {
        if metadata
            .get(member)
            .is_some_and(|value| !value.is_string() && !value.is_null())
        {
            return Err(wrong(&format!("metadata.{member}"), "a string"));
        }
    }
    let owners = metadata.get("ownerReferences");
    check_objects(owners, "metadata.ownerReferences")?;
    let Some(spec) = pod.get("spec").filter(|spec| spec.is_object()) else {
        return Err(wrong("spec", "an object"));
    };
    for member in ["volumes", "imagePullSecrets"] {
        check_objects(spec.get(member), &format!("spec.{member}"))?;
    }
    for list in [List::Containers, List::InitContainers] {
        let path = format!("spec.{}", list.member());
        let containers = spec.get(list.member());
        check_objects(containers, &path)?;
        for (index, container) in containers
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .enumerate()
        {
            if !container.get("name").is_some_and(Value::is_string) {
                return Err(wrong(&format!("{path}[{index}].name"), "a string"));
            }
            for member in ["env", "ports", "volumeMounts"] {
                check_objects(container.get(member), &format!("{path}[{index}].{member}"))?;
            }
        }
    }
    if spec
        .get("containers")
        .and_then(Value::as_array)
        .is_none_or(Vec::is_empty)
    {
        return Err(wrong(
            "spec.containers",
            "a list with at least one container",
        ));
    }
    Ok(())
}

fn check_objects(list: Option<&Value>, path: &str) -> Result<(), Refusal> {
    match list {
        None | Some(Value::Null) => Ok(()),
        Some(Value::Array(items)) => match items.iter().position(|item| !item.is_object()) {
            None => Ok(()),
            Some(index) => Err(Refusal::Shape {
                path: format!("{path}[{index}]"),
                wanted: "an object",
            }),
        },
        Some(_) => Err(Refusal::Shape {
            path: path.to_owned(),
            wanted: "a list",
        }),
    }
}

fn text_map(pod: &Value, member: &str) -> BTreeMap<String, String> {
    pod.get("metadata")
        .and_then(|metadata| metadata.get(member))
        .and_then(Value::as_object)
        .into_iter()
        .flatten()
        .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
        .collect()
}

/// Labels of the Pod.
pub fn labels(pod: &Value) -> BTreeMap<String, String> {
    text_map(pod, "labels")
}

/// Annotations of the Pod.
pub fn annotations(pod: &Value) -> BTreeMap<String, String> {
    text_map(pod, "annotations")
}

/// One annotation.
pub(crate) fn annotation<'p>(pod: &'p Value, name: &str) -> Option<&'p str> {
    pod.get("metadata")?.get("annotations")?.get(name)?.as_str()
}

/// One label.
pub(crate) fn label<'p>(pod: &'p Value, name: &str) -> Option<&'p str> {
    pod.get("metadata")?.get("labels")?.get(name)?.as_str()
}

/// A member of an object as an object; replaced by an empty object if it is not one.
pub(crate) fn object<'v>(value: &'v mut Value, member: &str) -> &'v mut Map<String, Value> {
    let member = as_object(value)
        .entry(member)
        .or_insert_with(|| Value::Object(Map::new()));
    as_object(member)
}

/// The value as an object; replaced by an empty object if it is not one.
pub(crate) fn as_object(value: &mut Value) -> &mut Map<String, Value> {
    if !value.is_object() {
        *value = Value::Object(Map::new());
    }
    match value {
        Value::Object(map) => map,
        _ => unreachable!("made an object above"),
    }
}

/// Sets one label or annotation (`member` is `labels` or `annotations`).
pub(crate) fn set_metadata(pod: &mut Value, member: &str, name: &str, value: String) {
    let metadata = Value::Object(std::mem::take(object(pod, "metadata")));
    let mut metadata = metadata;
    object(&mut metadata, member).insert(name.to_owned(), Value::from(value));
    as_object(pod).insert("metadata".to_owned(), metadata);
}

/// Containers in a list.
pub(crate) fn containers(pod: &Value, list: List) -> &[Value] {
    pod.get("spec")
        .and_then(|spec| spec.get(list.member()))
        .and_then(Value::as_array)
        .map_or(&[], Vec::as_slice)
}

/// Mutable containers in a list; an empty list is created if it is missing.
pub(crate) fn containers_mut(pod: &mut Value, list: List) -> &mut Vec<Value> {
    let value = object(pod, "spec")
        .entry(list.member())
        .or_insert_with(|| Value::Array(Vec::new()));
    if !value.is_array() {
        *value = Value::Array(Vec::new());
    }
    match value {
        Value::Array(containers) => containers,
        _ => unreachable!("made a list above"),
    }
}

/// Name of a container or of any other named item.
pub(crate) fn name(item: &Value) -> &str {
    item.get("name").and_then(Value::as_str).unwrap_or_default()
}

/// The container with this name.
pub(crate) fn find<'p>(pod: &'p Value, list: List, wanted: &str) -> Option<&'p Value> {
    containers(pod, list)
        .iter()
        .find(|container| name(container) == wanted)
}

/// The proxy's container, in either list.
pub(crate) fn proxy(pod: &Value) -> Option<&Value> {
    find(pod, List::Containers, PROXY).or_else(|| find(pod, List::InitContainers, PROXY))
}

/// The proxy's container, mutable.
pub(crate) fn proxy_mut(pod: &mut Value) -> Option<&mut Value> {
    let list = if find(pod, List::Containers, PROXY).is_some() {
        List::Containers
    } else {
        find(pod, List::InitContainers, PROXY)?;
        List::InitContainers
    };
    containers_mut(pod, list)
        .iter_mut()
        .find(|container| name(container) == PROXY)
}

/// Value of an environment variable of a container.
pub(crate) fn env<'c>(container: &'c Value, variable: &str) -> Option<&'c str> {
    let list = container.get("env")?.as_array()?;
    list.iter()
        .find(|item| name(item) == variable)?
        .get("value")?
        .as_str()
}

/// Sets an environment variable, in place if it exists, else at the end.
pub(crate) fn set_env(container: &mut Value, variable: &str, value: &str) {
    let item = serde_json::json!({"name": variable, "value": value});
    let list = as_object(container)
        .entry("env")
        .or_insert_with(|| Value::Array(Vec::new()));
    let Value::Array(list) = list else {
        *list = Value::Array(vec![item]);
        return;
    };
    match list.iter_mut().find(|item| name(item) == variable) {
        Some(place) => *place = item,
        None => list.push(item),
    }
}

/// Name for logs: the name, or the prefix of a generated name.
pub fn display_name(pod: &Value) -> String {
    let metadata = pod.get("metadata");
    let text = |member: &str| {
        metadata
            .and_then(|m| m.get(member))
            .and_then(Value::as_str)
            .filter(|t| !t.is_empty())
    };
    match (text("name"), text("generateName")) {
        (Some(name), _) => name.to_owned(),
        (None, Some(prefix)) => format!("{prefix}***** (actual name not yet known)"),
        (None, None) => "(no name)".to_owned(),
    }
}

/// JSON text with members in order of their names.
pub(crate) fn sorted_json(value: &Value) -> String {
    fn sorted(value: &Value) -> Value {
        match value {
            Value::Object(map) => {
                let ordered: BTreeMap<_, _> = map.iter().collect();
                Value::Object(
                    ordered
                        .into_iter()
                        .map(|(key, value)| (key.clone(), sorted(value)))
                        .collect(),
                )
            }
            Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
            other => other.clone(),
        }
    }
    sorted(value).to_string()
}
