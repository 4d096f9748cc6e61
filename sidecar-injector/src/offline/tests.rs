use super::*;
use crate::config::{Settings, default_injection};

fn config() -> Config {
    Config::parse(&default_injection(), "", "", Settings::default()).unwrap()
}

fn template() -> Value {
    json!({
        "metadata": {"labels": {"app": "web"}},
        "spec": {"containers": [{"name": "web", "image": "web:1", "ports": [{"containerPort": 80}]}]},
    })
}

fn run(value: &Value) -> (std::result::Result<Result, Error>, Vec<String>) {
    let mut warnings = Vec::new();
    let result = object(value, "shop", &config(), &mut |text| warnings.push(text));
    (result, warnings)
}

fn injected(value: &Value) -> Value {
    match run(value).0.unwrap() {
        Result::Injected(value) => *value,
        Result::Unchanged => panic!("{value} is unchanged"),
    }
}

fn proxy(template: &Value) -> &Value {
    let all = ["/spec/containers", "/spec/initContainers"];
    all.iter()
        .filter_map(|path| template.pointer(path)?.as_array())
        .flatten()
        .find(|container| container["name"] == "istio-proxy")
        .unwrap()
}

fn env<'a>(container: &'a Value, name: &str) -> &'a str {
    let all = container["env"].as_array().unwrap();
    let found = all.iter().find(|variable| variable["name"] == name);
    found.unwrap()["value"].as_str().unwrap()
}

#[test]
fn every_kind_that_makes_pods_is_injected_and_named_as_the_workload() {
    for maker in MAKERS.iter().filter(|maker| maker.kind != "Pod") {
        let version = if maker.group.is_empty() {
            "v1".to_owned()
        } else {
            format!("{}/v1", maker.group)
        };
        let spec = if maker.kind == "CronJob" {
            json!({"jobTemplate": {"spec": {"template": template()}}})
        } else {
            json!({"template": template()})
        };
        let object = json!({
            "apiVersion": version,
            "kind": maker.kind,
            "metadata": {"name": "web"},
            "spec": spec,
        });
        let changed = injected(&object);
        let found = changed.pointer(maker.template).unwrap();
        let container = proxy(found);
        assert_eq!(
            env(container, "ISTIO_META_WORKLOAD_NAME"),
            "web",
            "{}",
            maker.kind
        );
        let owner = env(container, "ISTIO_META_OWNER");
        assert!(owner.contains("/namespaces/shop/"), "{owner}");
        // The template of the Job's Pods gets the annotations, not the Job itself.
        assert!(found["metadata"]["annotations"]["sidecar.istio.io/status"].is_string());
        assert_eq!(changed["metadata"], object["metadata"]);
        // A template has neither a name nor a kind.
        assert!(found.get("kind").is_none());
        assert!(found["metadata"].get("name").is_none());
    }
}

#[test]
fn a_pod_keeps_its_name() {
    let mut pod = template();
    pod["apiVersion"] = "v1".into();
    pod["kind"] = "Pod".into();
    pod["metadata"]["name"] = "one".into();
    let changed = injected(&pod);
    assert_eq!(changed["metadata"]["name"], "one");
    assert_eq!(changed["kind"], "Pod");
    proxy(&changed);
}

#[test]
fn items_of_lists_are_injected_and_others_stay() {
    let service = json!({"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web"}});
    let list = json!({"apiVersion": "v1", "kind": "List", "items": [
        service,
        {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"},
         "spec": {"template": template()}},
    ]});
    let changed = injected(&list);
    assert_eq!(changed["items"][0], service);
    proxy(&changed["items"][1]["spec"]["template"]);
    assert_eq!(run(&service).0.unwrap(), Result::Unchanged);
    let foreign = json!({"apiVersion": "shop.example/v1", "kind": "Deployment", "spec": {"template": template()}});
    assert_eq!(run(&foreign).0.unwrap(), Result::Unchanged);
}

#[test]
fn what_is_left_alone_is_told() {
    let mut host = json!({"apiVersion": "apps/v1", "kind": "DaemonSet",
        "metadata": {"name": "agent"}, "spec": {"template": template()}});
    host["spec"]["template"]["spec"]["hostNetwork"] = true.into();
    let (result, warnings) = run(&host);
    assert_eq!(result.unwrap(), Result::Unchanged);
    assert_eq!(warnings.len(), 1);
    assert!(
        warnings[0].starts_with("DaemonSet/agent is not injected: "),
        "{warnings:?}"
    );
}

#[test]
fn a_refusal_names_the_object() {
    let mut bad = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"}, "spec": {"template": template()}});
    bad["spec"]["template"]["metadata"]["annotations"] =
        json!({"traffic.sidecar.istio.io/excludeInboundPorts": "http"});
    let error = run(&bad).0.unwrap_err().to_string();
    assert!(error.starts_with("Deployment/web: "), "{error}");
    assert!(error.contains("excludeInboundPorts"), "{error}");
}

#[test]
fn injecting_twice_changes_nothing() {
    let object = json!({"apiVersion": "apps/v1", "kind": "Deployment",
        "metadata": {"name": "web"}, "spec": {"template": template()}});
    let once = injected(&object);
    assert_eq!(injected(&once), once);
}
