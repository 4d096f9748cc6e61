use super::*;

fn read_yaml(text: &str) -> Content {
    read(&Path::new("dir/a.yaml").into(), text)
}

fn problems(content: &Content) -> Vec<String> {
    content.problems.iter().map(Problem::to_string).collect()
}

fn keys(content: &Content) -> Vec<String> {
    content
        .entries
        .iter()
        .map(|entry| entry.key.to_string())
        .collect()
}

const GOOD: &str = "apiVersion: networking.istio.io/v1
kind: Sidecar
metadata: {name: good, namespace: shop}
spec: {outboundTrafficPolicy: {}}
";

fn with(bad: &str) -> Content {
    read_yaml(&format!(
        "{GOOD}---\n{bad}\n---\n{}",
        GOOD.replace("good", "better")
    ))
}

/// An invalid document does not affect those around it, and gives one message with its place.
#[test]
fn bad_documents_have_one_message_each() {
    let cases = [
        (
            "a: {\n",
            true,
            "dir/a.yaml, document 2, line 8: did not find expected",
        ),
        (
            "kind: A\nkind: B\n",
            true,
            "dir/a.yaml, document 2, line 7: duplicate key \"kind\"",
        ),
        (
            "- x\n",
            true,
            "dir/a.yaml, document 2, line 6: found a list",
        ),
        (
            "apiVersion: v1\nkind: Service\nmetadata: {}\n",
            true,
            "dir/a.yaml, document 2, line 8: Service: metadata.name: the object has no name",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata:\n  name: x\n\
             spec:\n  hosts: [a]\n  http:\n  - route:\n    - weight: many\n",
            false,
            "dir/a.yaml, document 2, line 14: VirtualService default/x: \
             spec.http[0].route[0].weight: ",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualService\nmetadata: {name: x}\n\
             spec:\n  hosts: [a]\n  tcp: [{route: [{destination: {host: a}}]}]\n  https: []\n",
            false,
            "dir/a.yaml, document 2, line 12: VirtualService default/x: spec.https: ",
        ),
        (
            "apiVersion: networking.istio.io/v1\nkind: VirtualServise\nmetadata: {name: x}\n",
            false,
            "dir/a.yaml, document 2, line 7: networking.istio.io/v1 VirtualServise: kind: \
             networking.istio.io/v1 VirtualServise is not an Istio kind",
        ),
        (
            "apiVersion: v1\nkind: List\nitems:\n- apiVersion: v1\n  kind: Service\n  \
             metadata: {name: x}\n  spec: {ports: [{port: 0}]}\n",
            false,
            "dir/a.yaml, document 2, line 12: Service default/x: items[0].spec.ports[0].port: ",
        ),
    ];
    for (bad, obscured, message) in cases {
        let content = with(bad);
        assert_eq!(content.problems.len(), 1, "{bad}: {:?}", problems(&content));
        let text = &problems(&content)[0];
        assert!(text.starts_with(message), "{bad}: {text}");
        assert_eq!(content.obscured, obscured, "{bad}");
        let keys = keys(&content);
        assert!(
            keys.contains(&"Sidecar shop/good".to_owned()),
            "{bad}: {keys:?}"
        );
        assert!(
            keys.contains(&"Sidecar shop/better".to_owned()),
            "{bad}: {keys:?}"
        );
    }
}

#[test]
fn an_object_with_a_wrong_field_is_not_taken_and_named_as_failed() {
    let content = with(
        "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: x}\nspec: {egress: 1}\n",
    );
    assert_eq!(content.entries.len(), 2);
    assert_eq!(
        content
            .failed
            .iter()
            .map(Key::to_string)
            .collect::<Vec<_>>(),
        ["Sidecar default/x"]
    );
}

#[test]
fn the_second_of_two_equal_identities_is_reported() {
    let content = with(GOOD);
    assert_eq!(content.entries.len(), 2);
    let text = &problems(&content)[0];
    assert!(
        text.starts_with(
            "dir/a.yaml, document 2, line 6: Sidecar shop/good: the object is already defined on \
             line 1 of this file"
        ),
        "{text}"
    );
}

#[test]
fn foreign_kinds_are_counted_without_a_problem() {
    let content = with("apiVersion: v1\nkind: ConfigMap\nmetadata: {name: x}\n");
    assert_eq!(problems(&content), Vec::<String>::new());
    assert_eq!(content.others, [("v1 ConfigMap".to_owned(), 1)].into());
}

#[test]
fn line_ends_and_separators_of_all_forms() {
    let text = format!("{GOOD}--- # second\n{}", GOOD.replace("good", "b")).replace('\n', "\r\n");
    assert_eq!(
        keys(&read_yaml(&text)),
        ["Sidecar shop/good", "Sidecar shop/b"]
    );
}

#[test]
fn json_files() {
    let object = r#"{"apiVersion": "networking.istio.io/v1", "kind": "Sidecar",
        "metadata": {"name": "a"}, "spec": {"egress": 1}}"#;
    let content = read(&Path::new("a.json").into(), object);
    let text = &problems(&content)[0];
    assert!(
        text.starts_with("a.json, document 1, line 2: Sidecar default/a: spec.egress: "),
        "{text}"
    );
    let content = read(&Path::new("a.json").into(), "{\"a\": \n");
    assert!(content.obscured);
}

#[test]
fn a_document_that_is_too_large_is_refused_and_the_others_are_read() {
    let filler = "x".repeat(DOCUMENT_BYTES);
    let content = with(&format!("a: {filler}\n"));
    assert_eq!(content.entries.len(), 2);
    let text = &problems(&content)[0];
    assert!(
        text.contains("document 2, line 6: the document has"),
        "{text}"
    );
}

#[test]
fn the_number_of_problems_is_bounded() {
    let bad = vec!["a: {\n"; MAX_PROBLEMS + 5].join("---\n");
    let content = read_yaml(&bad);
    assert_eq!(content.problems.len(), MAX_PROBLEMS + 1);
    assert!(
        problems(&content)
            .last()
            .unwrap()
            .contains("5 more problems")
    );
}
