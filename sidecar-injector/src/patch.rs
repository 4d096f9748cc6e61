//! Difference of two JSON documents as an RFC 6902 patch of add, remove and replace operations.

use serde::Serialize;
use serde_json::{Map, Value};

/// One operation; `path` is a JSON pointer (RFC 6901).
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(tag = "op", rename_all = "lowercase")]
pub enum Operation {
    /// Inserts into a list, or sets a member.
    Add {
        /// Path of the new value.
        path: String,
        /// The new value.
        value: Value,
    },
    /// Removes a value.
    Remove {
        /// Path of the value.
        path: String,
    },
    /// Replaces a value.
    Replace {
        /// Path of the value.
        path: String,
        /// The new value.
        value: Value,
    },
}

/// Operations that turn `from` into `to`; none if they are equal. Members are visited in order of
/// their names, so that equal input gives equal output. List items with the same `name` are treated
/// as the same item, so that adding a container in front of others is one operation.
pub fn diff(from: &Value, to: &Value) -> Vec<Operation> {
    let mut operations = Vec::new();
    values(from, to, &mut String::new(), &mut operations);
    operations
}

fn values(from: &Value, to: &Value, path: &mut String, out: &mut Vec<Operation>) {
    match (from, to) {
        _ if from == to => {}
        (Value::Object(from), Value::Object(to)) => objects(from, to, path, out),
        (Value::Array(from), Value::Array(to)) => lists(from, to, path, out),
        _ => out.push(Operation::Replace {
            path: path.clone(),
            value: to.clone(),
        }),
    }
}

/// Calls `visit` with one more step in the path.
fn at(path: &mut String, step: &str, visit: impl FnOnce(&mut String)) {
    let length = path.len();
    path.push('/');
    for c in step.chars() {
        match c {
            '~' => path.push_str("~0"),
            '/' => path.push_str("~1"),
            c => path.push(c),
        }
    }
    visit(path);
    path.truncate(length);
}

fn objects(
    from: &Map<String, Value>,
    to: &Map<String, Value>,
    path: &mut String,
    out: &mut Vec<Operation>,
) {
    let mut names: Vec<&String> = from.keys().chain(to.keys()).collect();
    names.sort_unstable();
    names.dedup();
    for name in names {
        at(path, name, |path| match (from.get(name), to.get(name)) {
            (Some(from), Some(to)) => values(from, to, path, out),
            (Some(_), None) => out.push(Operation::Remove { path: path.clone() }),
            (None, Some(to)) => {
                out.push(Operation::Add {
                    path: path.clone(),
                    value: to.clone(),
                });
            }
            (None, None) => {}
        });
    }
}

fn same_item(a: &Value, b: &Value) -> bool {
    match (a.get("name"), b.get("name")) {
        (Some(a), Some(b)) => a == b,
        _ => a == b,
    }
}

fn lists(from: &[Value], to: &[Value], path: &mut String, out: &mut Vec<Operation>) {
    let shorter = from.len().min(to.len());
    let head = from
        .iter()
        .zip(to)
        .take_while(|(a, b)| same_item(a, b))
        .count();
    let tail = from
        .iter()
        .rev()
        .zip(to.iter().rev())
        .take(shorter - head)
        .take_while(|(a, b)| same_item(a, b))
        .count();
    let (old, new) = (from.len() - head - tail, to.len() - head - tail);
    // In-place changes come first, as they move no items; the middle changes the length last.
    for (index, (a, b)) in from.iter().zip(to).enumerate().take(head + old.min(new)) {
        at(path, &index.to_string(), |path| values(a, b, path, out));
    }
    let kept = from
        .iter()
        .enumerate()
        .skip(head + old)
        .zip(to.iter().skip(head + new));
    for ((index, a), b) in kept {
        at(path, &index.to_string(), |path| values(a, b, path, out));
    }
    for index in (head + new..head + old).rev() {
        at(path, &index.to_string(), |path| {
            out.push(Operation::Remove { path: path.clone() })
        });
    }
    for (index, value) in to.iter().enumerate().take(head + new).skip(head + old) {
        at(path, &index.to_string(), |path| {
            out.push(Operation::Add {
                path: path.clone(),
                value: value.clone(),
            });
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn applied(from: &Value, operations: &[Operation]) -> Value {
        let patch: json_patch::Patch =
            serde_json::from_value(serde_json::to_value(operations).unwrap()).unwrap();
        let mut result = from.clone();
        json_patch::patch(&mut result, &patch).unwrap();
        result
    }

    fn check(from: &Value, to: &Value) -> Vec<Operation> {
        let operations = diff(from, to);
        assert_eq!(&applied(from, &operations), to);
        operations
    }

    #[test]
    fn equal_documents_need_no_patch() {
        assert!(
            diff(
                &json!({"a": [1, {"b": null}]}),
                &json!({"a": [1, {"b": null}]})
            )
            .is_empty()
        );
    }

    #[test]
    fn keys_are_escaped_and_visited_in_order() {
        let operations = check(&json!({"z": 1}), &json!({"a/b~c": 2, "m": {}}));
        let text = serde_json::to_string(&operations).unwrap();
        assert_eq!(
            text,
            r#"[{"op":"add","path":"/a~1b~0c","value":2},{"op":"add","path":"/m","value":{}},{"op":"remove","path":"/z"}]"#
        );
    }

    #[test]
    fn named_item_in_front_is_one_operation_besides_changes() {
        let from = json!([{"name": "web", "probe": 1}]);
        let to = json!([{"name": "init"}, {"name": "proxy"}, {"name": "web", "probe": 2}]);
        let operations = check(&from, &to);
        assert_eq!(operations.len(), 3);
        assert_eq!(
            operations[0],
            Operation::Replace {
                path: "/0/probe".to_owned(),
                value: json!(2)
            }
        );
    }

    #[test]
    fn items_are_removed_from_the_back() {
        let operations = check(&json!([1, 2, 3, 4, 5]), &json!([1, 5]));
        let paths: Vec<_> = operations
            .iter()
            .map(|operation| match operation {
                Operation::Remove { path } => path.as_str(),
                other => panic!("{other:?}"),
            })
            .collect();
        assert_eq!(paths, ["/3", "/2", "/1"]);
    }

    fn document() -> impl Strategy<Value = Value> {
        let leaf = prop_oneof![
            Just(Value::Null),
            any::<bool>().prop_map(Value::from),
            (0..4i64).prop_map(Value::from),
            "[a~/]{0,3}".prop_map(Value::from),
        ];
        leaf.prop_recursive(4, 40, 5, |inner| {
            prop_oneof![
                prop::collection::vec(inner.clone(), 0..5).prop_map(Value::from),
                prop::collection::btree_map("[ab~/]{1,2}|name", inner, 0..5)
                    .prop_map(|map| Value::Object(map.into_iter().collect())),
            ]
        })
    }

    proptest! {
        #[test]
        fn patch_turns_one_document_into_the_other(from in document(), to in document()) {
            check(&from, &to);
        }
    }
}
