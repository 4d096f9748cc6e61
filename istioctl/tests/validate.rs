//! `istioctl validate` as a process.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::Value;

const GOOD: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
    metadata: {name: a, namespace: shop}\nspec:\n  hosts: [a]\n  http:\n  - route:\n    - destination: {host: a}\n";

fn istioctl(directory: &Path, arguments: &[&str], input: &str) -> Output {
    let mut child = Command::new(env!("CARGO_BIN_EXE_istioctl"))
        .args(arguments)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    child
        .stdin
        .take()
        .unwrap()
        .write_all(input.as_bytes())
        .unwrap();
    child.wait_with_output().unwrap()
}

fn texts(output: &Output) -> (i32, String, String) {
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout.clone()).unwrap(),
        String::from_utf8(output.stderr.clone()).unwrap(),
    )
}

#[test]
fn what_is_right_is_said_to_be() {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.yaml"), GOOD).unwrap();
    let output = istioctl(root.path(), &["validate", "-f", "a.yaml"], "");
    assert_eq!(
        texts(&output),
        (0, "\"a.yaml\" is valid\n".into(), String::new())
    );
    let output = istioctl(root.path(), &["v", "-"], GOOD);
    assert_eq!(texts(&output).1, "\"standard input\" is valid\n");
}

#[test]
fn the_first_error_hides_none_and_each_says_where() {
    let root = tempfile::tempdir().unwrap();
    let bad = GOOD.replace("hosts: [a]", "hosts: [a b]").replace(
        "{host: a}",
        "{host: a, port: {number: 70000}}\n      weight: -1",
    );
    std::fs::write(root.path().join("a.yaml"), format!("{GOOD}---\n{bad}")).unwrap();
    let (code, answer, errors) = texts(&istioctl(root.path(), &["validate", "a.yaml"], ""));
    assert_eq!((code, answer.as_str()), (1, ""));
    assert!(errors.starts_with("Error: "), "{errors}");
    for wanted in [
        "VirtualService/a.shop: spec.hosts[0]: ",
        "VirtualService/a.shop: spec.http[0].route[0].destination.port.number: ",
        "VirtualService/a.shop: spec.http[0].route[0].weight: ",
    ] {
        let line = errors.lines().find(|line| line.contains(wanted));
        let line = line.unwrap_or_else(|| panic!("no {wanted:?} in\n{errors}"));
        // All errors are in the second document, which begins on line 9.
        let number: usize = line.split(':').nth(1).unwrap().parse().unwrap();
        assert!(number > 9, "{line}");
    }
}

#[test]
fn an_unknown_field_is_an_error_here() {
    let root = tempfile::tempdir().unwrap();
    let text = GOOD.replace("  http:", "  hostz: [b]\n  http:");
    let (code, _, errors) = texts(&istioctl(root.path(), &["validate", "-"], &text));
    assert_eq!(code, 1);
    assert!(
        errors.contains("standard input:6: VirtualService/a.shop: spec.hostz: "),
        "{errors}"
    );
}

#[test]
fn what_cannot_be_read_has_a_code_of_its_own() {
    let root = tempfile::tempdir().unwrap();
    let (code, _, errors) = texts(&istioctl(root.path(), &["validate", "none.yaml"], ""));
    assert_eq!(code, 65);
    assert!(
        errors.contains("none.yaml: the file cannot be read: "),
        "{errors}"
    );
    let (code, _, errors) = texts(&istioctl(root.path(), &["validate", "-"], "a: [\n"));
    assert_eq!(code, 65);
    assert!(errors.starts_with("Error: standard input:"), "{errors}");
    let (code, _, _) = texts(&istioctl(root.path(), &["validate"], ""));
    assert_eq!(code, 64);
    let (code, _, _) = texts(&istioctl(root.path(), &["validat"], ""));
    assert_eq!(code, 64);
}

#[test]
fn json_holds_every_finding() {
    let root = tempfile::tempdir().unwrap();
    let text = format!(
        "{}---\napiVersion: apps/v1\nkind: Deployment\nmetadata: {{name: web}}\nspec: {{template: {{}}}}\n\
         ---\napiVersion: v1\nkind: Service\nmetadata: {{name: web}}\nspec:\n  ports:\n  - port: 80\n",
        GOOD.replace("hosts: [a]", "hosts: [a b]")
    );
    let output = istioctl(root.path(), &["validate", "-o", "json", "-"], &text);
    let findings: Vec<Value> = serde_json::from_slice(&output.stdout).unwrap();
    let seen: Vec<(&str, &str, &str)> = findings
        .iter()
        .map(|finding| {
            let text = |name: &str| finding[name].as_str().unwrap();
            (text("object"), text("field"), text("level"))
        })
        .collect();
    assert!(
        seen.contains(&("VirtualService/a.shop", "spec.hosts[0]", "error")),
        "{seen:?}"
    );
    assert!(seen.contains(&(
        "Deployment/web.default",
        "spec.template.metadata.labels",
        "warning"
    )));
    assert!(seen.contains(&("Service/web.default", "spec.ports[0].name", "error")));
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn the_samples_are_valid() {
    let samples = Path::new(env!("CARGO_MANIFEST_DIR")).join("../samples");
    let output = istioctl(
        &samples,
        &["validate", "-f", "manifests", "-f", "tasks"],
        "",
    );
    let (code, answer, errors) = texts(&output);
    assert_eq!(code, 0, "{errors}");
    assert!(answer.lines().count() > 25, "{answer}");
    assert!(!errors.contains("Warning"), "{errors}");
}
