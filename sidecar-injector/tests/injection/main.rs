//! Complete injections: golden files of examples, and properties of every injection.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test helpers may panic"
)]

mod decisions;
mod properties;

use serde_json::{Value, json};
use sidecar_injector::config::{Config, Settings, default_injection};
use sidecar_injector::inject::{Injected, Outcome, Refusal, Request, inject};
use std::collections::BTreeMap;

fn config() -> Config {
    Config::parse(
        &default_injection(),
        "global: {tag: test}",
        "",
        Settings::default(),
    )
    .unwrap()
}

fn request() -> Request<'static> {
    Request {
        namespace: "shop",
        url_env: &[],
        workload: None,
    }
}

fn pod(name: &str) -> Value {
    let path = format!("{}/tests/pods/{name}.yaml", env!("CARGO_MANIFEST_DIR"));
    serde_yaml::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

fn injected(pod: &Value, config: &Config) -> Injected {
    match inject(pod, &request(), config).unwrap() {
        Outcome::Injected(injected) => *injected,
        Outcome::Skipped { reason, .. } => panic!("skipped: {reason}"),
    }
}

/// Injects, and checks the properties of every injection.
fn checked(pod: &Value, config: &Config) -> Value {
    let first = injected(pod, config);
    let patch: json_patch::Patch =
        serde_json::from_value(serde_json::to_value(&first.patch).unwrap()).unwrap();
    let mut patched = pod.clone();
    json_patch::patch(&mut patched, &patch).unwrap();
    assert_eq!(patched, first.pod, "the patch gives the injected Pod");
    let second = injected(&first.pod, config);
    assert_eq!(second.pod, first.pod, "a second injection changes nothing");
    assert!(second.patch.is_empty());
    first.pod
}

const NAMES: [&str; 5] = [
    "1-deployment",
    "2-override",
    "3-tproxy",
    "4-gateway",
    "5-every-annotation",
];

#[test]
fn worked_examples() {
    let config = config();
    for name in NAMES {
        insta::assert_yaml_snapshot!(name, sorted(&checked(&pod(name), &config)));
    }
}

/// The order of members is not significant.
fn sorted(value: &Value) -> Value {
    match value {
        Value::Object(map) => {
            let map: BTreeMap<_, _> = map.iter().map(|(k, v)| (k.clone(), sorted(v))).collect();
            Value::Object(map.into_iter().collect())
        }
        Value::Array(items) => Value::Array(items.iter().map(sorted).collect()),
        other => other.clone(),
    }
}

#[test]
fn patch_of_the_first_example() {
    let injected = injected(&pod("1-deployment"), &config());
    let paths: Vec<String> = injected
        .patch
        .iter()
        .map(|operation| {
            let operation = serde_json::to_value(operation).unwrap();
            format!(
                "{} {}",
                operation["op"].as_str().unwrap(),
                operation["path"].as_str().unwrap()
            )
        })
        .collect();
    insta::assert_yaml_snapshot!("patch-of-1", paths);
}

fn names(pod: &Value, list: &str) -> Vec<String> {
    pod["spec"][list]
        .as_array()
        .into_iter()
        .flatten()
        .map(|container| container["name"].as_str().unwrap().to_owned())
        .collect()
}

#[test]
fn order_of_containers() {
    let with = |annotations: Value| {
        let pod = json!({"metadata": {"name": "p", "annotations": annotations},
            "spec": {"initContainers": [{"name": "i"}], "containers": [{"name": "a"}]}});
        let pod = checked(&pod, &config());
        (
            names(&pod, "initContainers").join(" "),
            names(&pod, "containers").join(" "),
        )
    };
    let of = |init: &str, containers: &str| (init.to_owned(), containers.to_owned());
    assert_eq!(with(json!({})), of("istio-init istio-proxy i", "a"));
    assert_eq!(
        with(json!({"sidecar.istio.io/interceptionMode": "NONE"})),
        of("istio-proxy i", "a")
    );
    let normal = "sidecar.istio.io/nativeSidecar";
    assert_eq!(
        with(json!({normal: "false"})),
        of("i istio-init", "a istio-proxy")
    );
    let hold =
        json!({normal: "false", "proxy.istio.io/config": "holdApplicationUntilProxyStarts: true"});
    assert_eq!(with(hold), of("i istio-init", "istio-proxy a"));
    let none = json!({normal: "false", "sidecar.istio.io/interceptionMode": "NONE"});
    assert_eq!(with(none), of("i", "a istio-proxy"));
}

#[test]
fn refusals_name_the_reason() {
    let refusal = |annotations: Value| {
        let pod = json!({"metadata": {"name": "p", "annotations": annotations},
            "spec": {"containers": [{"name": "a"}]}});
        inject(&pod, &request(), &config()).unwrap_err().to_string()
    };
    let text = refusal(json!({"traffic.sidecar.istio.io/includeOutboundIPRanges": "10.0.0.0"}));
    assert!(
        text.contains("includeOutboundIPRanges") && text.contains("\"10.0.0.0\""),
        "{text}"
    );
    let text = refusal(json!({"inject.istio.io/templates": "sidecar,nope"}));
    assert!(
        text.contains("\"nope\"") && text.contains("gateway, sidecar"),
        "{text}"
    );
    let text = refusal(json!({"proxy.istio.io/config": "concurrency: many"}));
    assert!(
        text.contains("proxy.istio.io/config") && text.contains("concurrency"),
        "{text}"
    );
    let text = refusal(json!({"sidecar.istio.io/status": "{"}));
    assert!(text.contains("sidecar.istio.io/status"), "{text}");
}

#[test]
fn proxy_alone_needs_the_gateway_template() {
    let mut pod = json!({"metadata": {"name": "p", "annotations": {}},
        "spec": {"containers": [{"name": "istio-proxy", "image": "auto"}]}});
    let text = inject(&pod, &request(), &config()).unwrap_err().to_string();
    assert!(
        text.contains("inject.istio.io/templates: gateway"),
        "{text}"
    );
    pod["metadata"]["annotations"]["inject.istio.io/templates"] = json!("gateway");
    checked(&pod, &config());
}

#[test]
fn what_is_no_pod_is_refused_with_the_place() {
    for (object, part) in [
        (json!(null), "the object"),
        (json!([]), "the object"),
        (json!({"kind": "Service"}), "Service"),
        (json!({}), "spec"),
        (json!({"spec": {}}), "spec.containers"),
        (json!({"spec": {"containers": []}}), "spec.containers"),
        (json!({"spec": {"containers": [1]}}), "spec.containers[0]"),
        (
            json!({"spec": {"containers": [{}]}}),
            "spec.containers[0].name",
        ),
        (
            json!({"spec": {"containers": [{"name": "a", "env": {}}]}}),
            "spec.containers[0].env",
        ),
        (
            json!({"metadata": {"labels": {"a": 1}}, "spec": {}}),
            "metadata.labels[a]",
        ),
        (json!({"metadata": [], "spec": {}}), "metadata"),
        (
            json!({"metadata": {"ownerReferences": [1]}, "spec": {}}),
            "metadata.ownerReferences[0]",
        ),
    ] {
        let text = inject(&object, &request(), &config())
            .unwrap_err()
            .to_string();
        assert!(text.contains(part), "{object}: {text}");
    }
}

#[test]
fn broken_template_refuses_only_pods_that_use_it() {
    let injection = "policy: enabled\ntemplates:\n  sidecar: 'metadata: {labels: {x: y}}'\n  bad: 'a: {{ .Values.none }}'\n  list: 'spec: {containers: 7}'\n";
    let config = Config::parse(injection, "", "", Settings::default()).unwrap();
    let with = |template: &str| {
        let pod = json!({"metadata": {"annotations": {"inject.istio.io/templates": template}},
            "spec": {"containers": [{"name": "a"}]}});
        inject(&pod, &request(), &config)
    };
    assert!(with("sidecar").is_ok());
    for bad in ["bad", "list"] {
        assert!(matches!(with(bad), Err(Refusal::Template { .. })), "{bad}");
    }
}

#[test]
fn one_point_one_format_is_refused_with_a_hint() {
    let error = Config::parse(
        "policy: enabled\ntemplate: |\n  containers: []\n",
        "",
        "",
        Settings::default(),
    );
    let text = error.unwrap_err().to_string();
    assert!(
        text.contains("Istio 1.1") && text.contains("templates"),
        "{text}"
    );
}

#[test]
fn user_template_with_alias_adds_to_the_sidecar() {
    let mut file: Value = serde_yaml::from_str(&default_injection()).unwrap();
    file["aliases"] = json!({"full": ["sidecar", "logs"]});
    file["injectedAnnotations"] = json!({"team": "mesh"});
    file["templates"]["logs"] = json!(
        "spec:\n  containers:\n  - name: istio-proxy\n    volumeMounts:\n    - {name: logs, mountPath: /var/log/envoy}\n    env:\n    - name: TEAM\n      value: {{ annotation .ObjectMeta \"team\" \"none\" | quote }}\n  volumes:\n  - name: logs\n    emptyDir: {}\n"
    );
    let config = Config::parse(
        &serde_yaml::to_string(&file).unwrap(),
        "",
        "",
        Settings {
            native_sidecars: false,
            ..Settings::default()
        },
    )
    .unwrap();
    let pod = json!({"metadata": {"name": "p", "annotations": {"inject.istio.io/templates": "full"}},
        "spec": {"containers": [{"name": "a"}]}});
    let pod = checked_once(&pod, &config);
    let proxy = &pod["spec"]["containers"][1];
    let mounts = proxy["volumeMounts"].as_array().unwrap();
    assert_eq!(
        mounts.last().unwrap(),
        &json!({"name": "logs", "mountPath": "/var/log/envoy"})
    );
    let env = proxy["env"].as_array().unwrap();
    assert!(env.contains(&json!({"name": "TEAM", "value": "none"})));
    assert_eq!(pod["metadata"]["annotations"]["team"], "mesh");
}

/// As `checked`, for templates that read the result of injection.
fn checked_once(pod: &Value, config: &Config) -> Value {
    injected(pod, config).pod
}

#[test]
fn url_pairs_and_network_reach_the_proxy() {
    let env = [
        ("ISTIO_META_CLUSTER_ID", "c1"),
        ("ISTIO_META_NETWORK", "n1"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()));
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
    let request = Request {
        namespace: "shop",
        url_env: &env,
        workload: None,
    };
    let Outcome::Injected(injected) = inject(&pod, &request, &config()).unwrap() else {
        panic!()
    };
    let env = injected.pod["spec"]["initContainers"][1]["env"]
        .as_array()
        .unwrap();
    let value = |name: &str| env.iter().find(|item| item["name"] == name).unwrap()["value"].clone();
    assert_eq!(value("ISTIO_META_CLUSTER_ID"), "c1");
    assert_eq!(value("ISTIO_META_NETWORK"), "n1");
    assert_eq!(
        injected.pod["metadata"]["labels"]["topology.istio.io/network"],
        "n1"
    );
}

#[test]
fn cni_replaces_the_init_container() {
    let config = Config::parse(
        &default_injection(),
        "pilot: {cni: {enabled: true}}",
        "",
        Settings::default(),
    )
    .unwrap();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
    let pod = checked(&pod, &config);
    let init = &pod["spec"]["initContainers"][0];
    assert_eq!(init["name"], "istio-validation");
    assert_eq!(
        init["securityContext"]["capabilities"],
        json!({"drop": ["ALL"]})
    );
    let args = init["args"].as_array().unwrap();
    assert!(
        args.contains(&json!("--run-validation")) && args.contains(&json!("--skip-rule-apply"))
    );
    assert_eq!(
        pod["metadata"]["annotations"]["sidecar.istio.io/interceptionMode"],
        "REDIRECT"
    );
}

#[test]
fn changing_from_native_to_normal_moves_the_proxy() {
    let native = config();
    let normal = Config::parse(
        &default_injection(),
        "global: {tag: test}",
        "",
        Settings {
            native_sidecars: false,
            ..Settings::default()
        },
    )
    .unwrap();
    let pod = json!({"metadata": {"name": "p"}, "spec": {"containers": [{"name": "a"}]}});
    let moved = injected(&injected(&pod, &native).pod, &normal).pod;
    assert_eq!(names(&moved, "initContainers"), ["istio-init"]);
    assert_eq!(names(&moved, "containers"), ["a", "istio-proxy"]);
}
