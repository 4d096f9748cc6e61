//! `istioctl analyze` as a process, on files and on a cluster.
#![allow(clippy::unwrap_used, reason = "a test may fail")]

#[path = "analyze/server.rs"]
mod server;

use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Output, Stdio};

use serde_json::{Value, json};
use server::Server;

/// Routes to an unknown host on line 8.
const ROUTE: &str = "apiVersion: networking.istio.io/v1\nkind: VirtualService\n\
    metadata: {name: web}\nspec:\n  hosts: [a.com]\n  http:\n  - route:\n    - destination: {host: nowhere}\n";
const NAMESPACE: &str = "apiVersion: v1\nkind: Namespace\nmetadata: {name: shop}\n";

fn istioctl(directory: &Path, arguments: &[&str], input: &str) -> (i32, String, String) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_istioctl"))
        .arg("analyze")
        .args(arguments)
        .current_dir(directory)
        .env_remove("KUBECONFIG")
        .env_remove("KUBERNETES_SERVICE_HOST")
        .env("HOME", directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // A command that does not read its input may exit before it is written.
    let _written = child.stdin.take().unwrap().write_all(input.as_bytes());
    let output: Output = child.wait_with_output().unwrap();
    (
        output.status.code().unwrap(),
        String::from_utf8(output.stdout).unwrap(),
        String::from_utf8(output.stderr).unwrap(),
    )
}

/// Runs it on a text, without a cluster.
fn on(text: &str, arguments: &[&str]) -> (i32, String, String) {
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.yaml"), text).unwrap();
    let arguments = [&["-k=false", "a.yaml"], arguments].concat();
    istioctl(root.path(), &arguments, "")
}

#[test]
fn a_finding_says_where_it_is_and_has_a_code_of_its_own() {
    let (code, answer, errors) = on(&format!("{NAMESPACE}---\n{ROUTE}"), &["-n", "shop"]);
    assert_eq!(
        answer,
        "Error [IST0101] (VirtualService shop/web a.yaml:12) host \"nowhere\" does not exist\n\
         Info [IST0102] (Namespace shop a.yaml:3) namespace shop has no injection label; label it istio-injection=enabled, or =disabled to silence this\n"
    );
    assert_eq!(code, 79);
    assert!(
        errors.starts_with("Error: 1 message of level Error in namespace shop, with a.yaml"),
        "{errors}"
    );
}

#[test]
fn nothing_found_is_said_and_stdout_stays_empty() {
    let (code, answer, errors) = on(NAMESPACE, &[]);
    assert_eq!((code, answer.as_str()), (0, ""));
    assert_eq!(
        errors,
        "No issue found in namespace default, with a.yaml.\n"
    );
    let (code, answer, errors) = on(
        &NAMESPACE.replace(
            "{name: shop}",
            "{name: shop, labels: {istio-injection: disabled}}",
        ),
        &["-A"],
    );
    assert_eq!((code, answer.as_str()), (0, ""));
    assert_eq!(errors, "No issue found in all namespaces, with a.yaml.\n");
}

#[test]
fn only_messages_about_the_namespace_are_shown() {
    let text = format!(
        "{ROUTE}---\n{}",
        ROUTE.replace("{name: web}", "{name: web, namespace: other}")
    );
    let (_, answer, _) = on(&text, &[]);
    assert!(answer.contains("default/web a.yaml:8"), "{answer}");
    assert!(!answer.contains("VirtualService other/web"), "{answer}");
    let (_, answer, _) = on(&text, &["-A"]);
    assert!(answer.contains("other/web a.yaml:17"), "{answer}");
    assert_eq!(answer.matches("IST0101").count(), 2, "{answer}");
}

#[test]
fn json_and_yaml_hold_the_same_and_do_not_fail() {
    let (code, answer, errors) = on(ROUTE, &["-o", "json"]);
    assert_eq!((code, errors.as_str()), (0, ""));
    let entries: Value = serde_json::from_str(&answer).unwrap();
    let entry = json!({
        "code": "IST0101",
        "level": "Error",
        "origin": "VirtualService default/web",
        "reference": "a.yaml:8",
        "message": "host \"nowhere\" does not exist",
        "documentationUrl": "https://istio.io/v1.30/docs/reference/config/analysis/ist0101/?ref=istioctl-analyze",
    });
    assert_eq!(entries, json!([entry]));
    let (code, answer, _) = on(ROUTE, &["-o", "yaml"]);
    assert_eq!(code, 0);
    let of_yaml: Value = serde_yaml::from_str(&answer).unwrap();
    assert_eq!(of_yaml, entries);
    let (_, answer, _) = on(NAMESPACE, &["-o", "json"]);
    assert_eq!(answer, "[]\n");
}

#[test]
fn thresholds_filter_the_answer_and_the_exit_code_apart() {
    let text = format!("{NAMESPACE}---\n{ROUTE}");
    let (code, answer, _) = on(&text, &["-n", "shop", "--output-threshold", "error"]);
    assert_eq!((code, answer.lines().count()), (79, 1));
    let (code, _, _) = on(NAMESPACE, &["-n", "shop"]);
    assert_eq!(code, 0);
    let (code, answer, errors) = on(
        NAMESPACE,
        &[
            "-n",
            "shop",
            "--failure-threshold",
            "Info",
            "--output-threshold",
            "Error",
        ],
    );
    assert_eq!((code, answer.as_str()), (79, ""));
    assert!(errors.contains("level Info or worse"), "{errors}");
    let (code, _, errors) = on(NAMESPACE, &["--output-threshold", "bad"]);
    assert_eq!(code, 64);
    assert!(errors.contains("want Info, Warning or Error"), "{errors}");
}

#[test]
fn suppressed_messages_are_gone() {
    for pattern in [
        "IST0101=VirtualService default/web",
        "IST0101=VirtualService web.default",
        "IST0101=VirtualService */*",
    ] {
        let (code, answer, _) = on(ROUTE, &["-S", pattern]);
        assert_eq!((code, answer.as_str()), (0, ""), "{pattern}");
    }
    let annotated = ROUTE.replace(
        "{name: web}",
        "{name: web, annotations: {galley.istio.io/analyze-suppress: 'IST0001,IST0101'}}",
    );
    assert_eq!(on(&annotated, &[]).0, 0);
    let (code, _, errors) = on(ROUTE, &["-S", "IST9999=*"]);
    assert_eq!(code, 79);
    assert!(errors.contains("unknown code IST9999"), "{errors}");
    assert_eq!(on(ROUTE, &["-S", "IST0101"]).0, 64);
}

#[test]
fn analyzers_are_listed_chosen_and_named() {
    let root = tempfile::tempdir().unwrap();
    let (code, answer, _) = istioctl(root.path(), &["-L"], "");
    assert_eq!(code, 0);
    assert!(
        answer
            .contains("virtualservice.DestinationRuleAnalyzer: VirtualService, DestinationRule\n"),
        "{answer}"
    );
    let one = "virtualservice.DestinationRuleAnalyzer";
    let (code, _, errors) = on(ROUTE, &["-v", "--analyzer", one]);
    assert_eq!(code, 0);
    assert!(errors.ends_with("Executed analyzers:\n\t* virtualservice.DestinationRuleAnalyzer\nNo issue found in namespace default, with a.yaml.\n"), "{errors}");
    let (code, _, errors) = on(ROUTE, &["--analyzer", "nobody"]);
    assert_eq!(code, 79);
    assert!(errors.contains("unknown analyzer nobody"), "{errors}");
}

#[test]
fn what_cannot_be_read_is_an_error_unless_that_is_wished() {
    let text = "a: [\n---\napiVersion: networking.istio.io/v1\nkind: Gateway\nmetadata: {name: g}\nspec:\n  servers: 5\n";
    let (code, answer, errors) = on(text, &[]);
    assert_eq!((code, answer.as_str()), (65, ""));
    assert!(errors.contains("Error: a.yaml:"), "{errors}");
    assert!(
        errors.contains("Error: a.yaml:7: Gateway default/g: spec.servers: "),
        "{errors}"
    );
    assert!(errors.contains("but 2 errors while reading"), "{errors}");
    assert_eq!(on(text, &["--ignore-unknown"]).0, 0);
    assert_eq!(on(&format!("{text}---\n{ROUTE}"), &[]).0, 79);
    // Kinds outside the mesh are ignored.
    assert_eq!(
        on("apiVersion: a/v1\nkind: B\nmetadata: {name: c}\n", &[]).0,
        0
    );
    let root = tempfile::tempdir().unwrap();
    assert_eq!(istioctl(root.path(), &["-k=false"], "").0, 64);
    assert_eq!(istioctl(root.path(), &["-k=false", "none.yaml"], "").0, 65);
}

#[test]
fn directories_lists_json_and_standard_input() {
    let root = tempfile::tempdir().unwrap();
    std::fs::create_dir_all(root.path().join("d/e")).unwrap();
    let list = "apiVersion: v1\nkind: List\nitems:\n- apiVersion: networking.istio.io/v1\n  kind: VirtualService\n  metadata: {name: web}\n  spec:\n    hosts: [a.com]\n    gateways: [gone]\n";
    std::fs::write(root.path().join("d/e/list.yaml"), list).unwrap();
    let object = json!({"apiVersion": "networking.istio.io/v1", "kind": "DestinationRule",
        "metadata": {"name": "rule"}, "spec": {"host": "nowhere"}});
    let text = serde_json::to_string_pretty(&object).unwrap();
    std::fs::write(root.path().join("d/rule.json"), text).unwrap();
    let (_, answer, errors) = istioctl(root.path(), &["-k=false", "-R", "-", "d"], ROUTE);
    for wanted in [
        "(VirtualService default/web d/e/list.yaml:9) gateway \"gone\"",
        "(DestinationRule default/rule d/rule.json:8) no service has host nowhere",
    ] {
        assert!(answer.contains(wanted), "no {wanted:?} in\n{answer}");
    }
    assert!(!answer.contains("standard input"), "{answer}");
    assert!(
        errors.starts_with("Warning: VirtualService default/web (standard input:1) is ignored: VirtualService default/web (d/e/list.yaml:4) is the same object\n"),
        "{errors}"
    );
}

#[test]
fn settings_of_the_mesh_come_from_a_file() {
    let text = "apiVersion: telemetry.istio.io/v1\nkind: Telemetry\nmetadata: {name: t}\nspec: {accessLogging: [{}]}\n";
    assert!(on(text, &[]).1.contains("IST0157"));
    let root = tempfile::tempdir().unwrap();
    std::fs::write(root.path().join("a.yaml"), text).unwrap();
    std::fs::write(
        root.path().join("mesh"),
        "defaultProviders: {accessLogging: [envoy]}\nsdsUdsPath: x\n",
    )
    .unwrap();
    let arguments = ["-k=false", "a.yaml", "--meshConfigFile", "mesh", "-A"];
    let (code, answer, _) = istioctl(root.path(), &arguments, "");
    assert_eq!(code, 0);
    assert_eq!(
        answer,
        "Warning [IST0002] (MeshConfig istio-system/istio mesh:2) uses something deprecated: sdsUdsPath: it is ignored\n"
    );
    let arguments = ["-k=false", "a.yaml", "--meshConfigFile", "gone"];
    let (code, _, errors) = istioctl(root.path(), &arguments, "");
    assert_eq!(code, 1);
    assert!(errors.contains("gone: the file cannot be read"), "{errors}");
}

#[test]
fn colours_are_for_terminals_or_on_demand() {
    assert!(on(ROUTE, &[]).1.starts_with("Error ["));
    assert!(
        on(ROUTE, &["--color"])
            .1
            .starts_with("\u{1b}[1;31mError\u{1b}[0m [")
    );
    assert!(on(ROUTE, &["--color=false"]).1.starts_with("Error ["));
}

/// A cluster with a thousand Services; the last one is `svc-999`.
fn cluster() -> Server {
    let mut server = Server::new();
    server.add(
        "/api/v1/namespaces",
        json!({"metadata": {"name": "shop", "labels": {"istio-injection": "disabled"}}}),
    );
    for i in 0..1000 {
        server.add(
            "/api/v1/services",
            json!({
                "metadata": {"name": format!("svc-{i}"), "namespace": "shop"},
                "spec": {"ports": [{"name": "http", "port": 80}]},
            }),
        );
    }
    for path in [
        "/api/v1/pods",
        "/api/v1/nodes",
        "/api/v1/namespaces/istio-system/configmaps",
        "/apis/apps/v1/deployments",
        "/apis/networking.istio.io/v1alpha3/gateways",
        "/apis/networking.istio.io/v1alpha3/destinationrules",
        "/apis/networking.istio.io/v1alpha3/serviceentries",
    ] {
        server.serve(path);
    }
    server.forbid("/api/v1/secrets");
    server.add("/apis/networking.istio.io/v1alpha3/virtualservices", json!({
        "metadata": {"name": "web", "namespace": "shop"},
        "spec": {"hosts": ["a.com"], "http": [{"route": [{"destination": {"host": "nowhere"}}]}]},
    }));
    server
}

#[test]
fn a_cluster_is_read_page_by_page_and_files_lie_over_it() {
    let root = tempfile::tempdir().unwrap();
    let server = cluster().start(root.path());
    let reach = ["--kubeconfig", "config"];
    let (code, answer, errors) = istioctl(root.path(), &reach, "");
    assert_eq!(
        answer, "Error [IST0101] (VirtualService shop/web) host \"nowhere\" does not exist\n",
        "{errors}"
    );
    assert_eq!(code, 79);
    assert!(errors.contains("no permission to list Secret"), "{errors}");
    assert_eq!(server.pages("/api/v1/services"), 2);
    // The file replaces the cluster's object, and refers to the cluster's last service.
    let text = ROUTE.replace("nowhere", "svc-999");
    let arguments = [reach.as_slice(), &["-", "-v"]].concat();
    let (code, answer, errors) = istioctl(root.path(), &arguments, &text);
    assert_eq!((code, answer.as_str()), (0, ""), "{errors}");
    let (skipped, ran) = errors.split_once("Executed analyzers").unwrap();
    for name in [
        "gateway.SecretAnalyzer",
        "schema.ValidationAnalyzer.Sidecar",
        "sidecar.SelectorAnalyzer",
    ] {
        assert!(skipped.contains(name), "{name}: {errors}");
    }
    assert!(
        ran.contains("virtualservice.DestinationHostAnalyzer"),
        "{errors}"
    );
}

#[test]
fn what_the_cluster_does_not_know_may_be_in_files() {
    let root = tempfile::tempdir().unwrap();
    let _server = cluster().start(root.path());
    let text = "apiVersion: networking.istio.io/v1\nkind: Sidecar\nmetadata: {name: s}\nspec: {workloadSelector: {labels: {a: b}}, egress: [{hosts: [./*]}]}\n";
    let arguments = [
        "-c",
        "config",
        "--context",
        "test",
        "-",
        "-S",
        "IST0101=VirtualService *",
    ];
    let (code, answer, errors) = istioctl(root.path(), &arguments, text);
    assert_eq!(code, 79, "{errors}");
    assert!(
        answer.contains("(Sidecar shop/s standard input:4) selector \"a=b\" does not exist"),
        "{answer}"
    );
}

#[test]
fn a_namespace_that_is_not_there_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let _server = cluster().start(root.path());
    let (code, answer, errors) = istioctl(root.path(), &["-c", "config", "-n", "shoop"], "");
    assert_eq!((code, answer.as_str()), (1, ""));
    assert_eq!(errors, "Error: namespace \"shoop\" does not exist\n");
}

#[test]
fn a_cluster_that_cannot_be_read_is_an_error() {
    let root = tempfile::tempdir().unwrap();
    let (code, _, errors) = istioctl(root.path(), &[], "");
    assert_eq!(code, 1);
    assert!(errors.contains("--use-kube=false"), "{errors}");
    let mut server = cluster();
    server.break_down("/api/v1/pods");
    let _server = server.start(root.path());
    let (code, _, errors) = istioctl(root.path(), &["-c", "config"], "");
    assert_eq!(code, 1);
    assert!(errors.contains("list pods"), "{errors}");
    let mut server = cluster();
    server.hang("/api/v1/pods");
    let _server = server.start(root.path());
    let (code, _, errors) = istioctl(root.path(), &["-c", "config", "--timeout", "200ms"], "");
    assert_eq!(code, 1);
    assert!(errors.contains("longer than --timeout"), "{errors}");
    assert_eq!(istioctl(root.path(), &["--timeout", "0s"], "").0, 64);
}

#[test]
fn a_list_that_got_too_old_is_begun_anew() {
    let root = tempfile::tempdir().unwrap();
    let mut server = cluster();
    server.expire_once("/api/v1/services");
    let server = server.start(root.path());
    let (code, _, errors) = istioctl(root.path(), &["-c", "config"], "");
    assert_eq!(code, 79, "{errors}");
    // The first page, its expired continuation, and both again.
    assert_eq!(server.pages("/api/v1/services"), 4);
}
