//! Strategic merge of a partial Pod into a Pod: the merge keys of lists are part of the Kubernetes
//! API.

use serde_json::{Map, Value};

const DIRECTIVE: &str = "$patch";

/// How a list is merged, by the name of its member.
enum Rule {
    /// Items with the same value of this member are merged.
    ByKey(&'static str),
    /// Missing items are appended.
    Union,
    /// The new list replaces the old one.
    Replace,
}

fn rule(member: &str) -> Rule {
    match member {
        "containers"
        | "initContainers"
        | "ephemeralContainers"
        | "volumes"
        | "imagePullSecrets"
        | "env"
        | "resourceClaims"
        | "schedulingGates" => Rule::ByKey("name"),
        "ports" => Rule::ByKey("containerPort"),
        "volumeMounts" => Rule::ByKey("mountPath"),
        "volumeDevices" => Rule::ByKey("devicePath"),
        "hostAliases" => Rule::ByKey("ip"),
        "topologySpreadConstraints" => Rule::ByKey("topologyKey"),
        "ownerReferences" => Rule::ByKey("uid"),
        "finalizers" => Rule::Union,
        _ => Rule::Replace,
    }
}

/// Merges `overlay` into `base`: scalars and unkeyed lists of the overlay replace those of the
/// base, keyed lists and objects are merged, `null` deletes, and the directives `$patch: delete`
/// and `$patch: replace` are supported.
pub fn strategic_merge(base: Value, overlay: &Value) -> Value {
    merge(Some(base), overlay, "")
}

fn merge(base: Option<Value>, overlay: &Value, member: &str) -> Value {
    match overlay {
        Value::Object(overlay) => Value::Object(objects(base, overlay, member)),
        Value::Array(overlay) => Value::Array(lists(base, overlay, member)),
        scalar => scalar.clone(),
    }
}

fn objects(base: Option<Value>, overlay: &Map<String, Value>, member: &str) -> Map<String, Value> {
    let mut result = match base {
        Some(Value::Object(base)) => base,
        _ => Map::new(),
    };
    match overlay.get(DIRECTIVE).and_then(Value::as_str) {
        Some("delete") => return Map::new(),
        Some("replace") => result = Map::new(),
        _ => {}
    }
    match member {
        "volumes" => keep_source(&mut result, overlay),
        // A variable has either a value or a source.
        "env" => {
            if overlay.contains_key("value") {
                result.remove("valueFrom");
            } else if overlay.contains_key("valueFrom") {
                result.remove("value");
            }
        }
        _ => {}
    }
    for (key, value) in overlay {
        if key == DIRECTIVE {
            continue;
        }
        if value.is_null() {
            result.remove(key);
            continue;
        }
        let old = result.remove(key);
        result.insert(key.clone(), merge(old, value, key));
    }
    result
}

/// A volume has only one source: a new one replaces any other.
fn keep_source(base: &mut Map<String, Value>, overlay: &Map<String, Value>) {
    let names_source = overlay.keys().any(|key| key != "name" && key != DIRECTIVE);
    if names_source {
        base.retain(|key, _| key == "name" || overlay.contains_key(key));
    }
}

fn directive(item: &Value) -> Option<&str> {
    item.get(DIRECTIVE).and_then(Value::as_str)
}

fn lists(base: Option<Value>, overlay: &[Value], member: &str) -> Vec<Value> {
    let mut result = match base {
        Some(Value::Array(base)) => base,
        _ => Vec::new(),
    };
    let rule = rule(member);
    let key = match rule {
        Rule::ByKey(key) => key,
        Rule::Union => {
            for item in overlay {
                if !result.contains(item) {
                    result.push(item.clone());
                }
            }
            return result;
        }
        Rule::Replace => {
            return overlay
                .iter()
                .map(|item| merge(None, item, member))
                .collect();
        }
    };
    let bare = |item: &&Value| item.get(key).is_none();
    if overlay
        .iter()
        .filter(bare)
        .any(|item| directive(item) == Some("replace"))
    {
        result.clear();
    }
    for item in overlay {
        let Some(id) = item.get(key) else {
            if directive(item).is_none() {
                result.push(merge(None, item, member));
            }
            continue;
        };
        let place = result.iter().position(|old| old.get(key) == Some(id));
        match (place, directive(item)) {
            (Some(place), Some("delete")) => {
                result.remove(place);
            }
            (None, Some("delete")) => {}
            (Some(place), _) => {
                if let Some(slot) = result.get_mut(place) {
                    let old = slot.take();
                    *slot = merge(Some(old), item, member);
                }
            }
            (None, _) => result.push(merge(None, item, member)),
        }
    }
    result
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn spec(base: Value, overlay: Value) -> Value {
        strategic_merge(json!({"spec": base}), &json!({"spec": overlay}))["spec"].clone()
    }

    #[test]
    fn named_lists_merge_by_name_and_append() {
        let got = spec(
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "1"}]}),
            json!({"containers": [{"name": "b", "image": "2"}, {"name": "c"}]}),
        );
        assert_eq!(
            got,
            json!({"containers": [{"name": "a", "image": "1"}, {"name": "b", "image": "2"}, {"name": "c"}]})
        );
    }

    #[test]
    fn each_keyed_list_has_its_key() {
        for (member, key) in [
            ("ports", "containerPort"),
            ("volumeMounts", "mountPath"),
            ("volumeDevices", "devicePath"),
            ("hostAliases", "ip"),
            ("topologySpreadConstraints", "topologyKey"),
            ("ownerReferences", "uid"),
            ("env", "name"),
            ("imagePullSecrets", "name"),
            ("resourceClaims", "name"),
            ("schedulingGates", "name"),
        ] {
            let got = strategic_merge(
                json!({member: [{key: 1, "old": 1}]}),
                &json!({member: [{key: 1, "new": 2}, {key: 2}]}),
            );
            assert_eq!(
                got,
                json!({member: [{key: 1, "old": 1, "new": 2}, {key: 2}]}),
                "{member}"
            );
        }
    }

    #[test]
    fn unkeyed_lists_are_replaced_and_finalizers_united() {
        let got = strategic_merge(
            json!({"args": ["a", "b"], "finalizers": ["x"], "tolerations": [{"key": "k"}]}),
            &json!({"args": ["c"], "finalizers": ["x", "y"], "tolerations": []}),
        );
        assert_eq!(
            got,
            json!({"args": ["c"], "finalizers": ["x", "y"], "tolerations": []})
        );
    }

    #[test]
    fn volume_source_is_replaced_whole() {
        let got = spec(
            json!({"volumes": [{"name": "v", "emptyDir": {"medium": "Memory"}}]}),
            json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]}),
        );
        assert_eq!(
            got,
            json!({"volumes": [{"name": "v", "configMap": {"name": "c"}}]})
        );
    }

    #[test]
    fn variable_has_value_or_source() {
        let got = strategic_merge(
            json!({"env": [{"name": "A", "value": "1"}, {"name": "B", "valueFrom": {"x": 1}}]}),
            &json!({"env": [{"name": "A", "valueFrom": {"y": 1}}, {"name": "B", "value": "2"}]}),
        );
        assert_eq!(
            got,
            json!({"env": [{"name": "A", "valueFrom": {"y": 1}}, {"name": "B", "value": "2"}]})
        );
    }

    #[test]
    fn null_and_directives_delete_and_replace() {
        let base = json!({"labels": {"a": "1", "b": "2"}, "env": [{"name": "A", "value": "1"}, {"name": "B"}],
            "securityContext": {"runAsUser": 1, "privileged": true}});
        let got = strategic_merge(
            base,
            &json!({"labels": {"a": null}, "env": [{"name": "A", "$patch": "delete"}],
                "securityContext": {"$patch": "replace", "runAsUser": 2}}),
        );
        assert_eq!(
            got,
            json!({"labels": {"b": "2"}, "env": [{"name": "B"}], "securityContext": {"runAsUser": 2}})
        );
        let got = strategic_merge(
            json!({"env": [{"name": "A"}]}),
            &json!({"env": [{"$patch": "replace"}, {"name": "B"}]}),
        );
        assert_eq!(got, json!({"env": [{"name": "B"}]}));
    }
}
