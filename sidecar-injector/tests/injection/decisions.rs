//! Which Pods are injected, and which the API server sends to the webhook.

use super::{config, injected};
use serde_json::{Value, json};
use sidecar_injector::config::{Config, Settings};
use sidecar_injector::policy::Skip;
use std::collections::BTreeMap;

fn decided(policy: &str, pod: Value) -> Option<Skip> {
    let injection = format!(
        "policy: {policy}\nneverInjectSelector: [{{matchLabels: {{never: y}}}}]\nalwaysInjectSelector: [{{matchExpressions: [{{key: always, operator: Exists}}]}}, {{}}]\ntemplates: {{sidecar: ''}}\n"
    );
    let config = Config::parse(&injection, "", "", Settings::default()).unwrap();
    sidecar_injector::policy::decide(&pod, "shop", &config).skip
}

fn labelled(labels: Value, annotations: Value) -> Value {
    json!({"metadata": {"labels": labels, "annotations": annotations}, "spec": {"containers": [{"name": "a"}]}})
}

#[test]
fn decision_table() {
    const INJECT: &str = "sidecar.istio.io/inject";
    let none = json!({});
    for (policy, labels, annotations, skip) in [
        ("enabled", json!({}), none.clone(), None),
        (
            "enabled",
            json!({}),
            json!({INJECT: "false"}),
            Some(Skip::Refused),
        ),
        (
            "enabled",
            json!({"never": "y"}),
            none.clone(),
            Some(Skip::NeverSelector),
        ),
        (
            "enabled",
            json!({"never": "y"}),
            json!({INJECT: "true"}),
            None,
        ),
        ("disabled", json!({}), none.clone(), Some(Skip::Disabled)),
        ("disabled", json!({"always": ""}), none.clone(), None),
        (
            "disabled",
            json!({"always": "", "never": "y"}),
            none.clone(),
            Some(Skip::NeverSelector),
        ),
        ("disabled", json!({}), json!({INJECT: "Yes"}), None),
        (
            "enabled",
            json!({INJECT: "true"}),
            json!({INJECT: "false"}),
            None,
        ),
        (
            "enabled",
            json!({INJECT: "false"}),
            json!({INJECT: "true"}),
            Some(Skip::Refused),
        ),
        (
            "disabled",
            json!({INJECT: "maybe"}),
            json!({INJECT: "true"}),
            Some(Skip::Disabled),
        ),
        (
            "enabled",
            json!({}),
            json!({INJECT: "OFF"}),
            Some(Skip::Refused),
        ),
        ("enabled", json!({}), json!({INJECT: "perhaps"}), None),
        (
            "other",
            json!({INJECT: "true"}),
            none.clone(),
            Some(Skip::UnknownPolicy("other".to_owned())),
        ),
    ] {
        let pod = labelled(labels, annotations);
        assert_eq!(decided(policy, pod.clone()), skip, "{policy} {pod}");
    }
    let mut host = labelled(json!({INJECT: "true"}), none);
    host["spec"]["hostNetwork"] = json!(true);
    assert_eq!(decided("enabled", host), Some(Skip::HostNetwork));
}

#[test]
fn namespaces_of_the_cluster_are_left_alone() {
    let pod = labelled(json!({}), json!({}));
    for namespace in [
        "kube-system",
        "kube-public",
        "kube-node-lease",
        "istio-system",
    ] {
        let decision = sidecar_injector::policy::decide(&pod, namespace, &config());
        assert_eq!(decision.skip, Some(Skip::SystemNamespace), "{namespace}");
    }
}

#[test]
fn unclear_marks_and_dns_policies_warn() {
    let mut pod = labelled(json!({"sidecar.istio.io/inject": "maybe"}), json!({}));
    pod["spec"]["dnsPolicy"] = json!("Default");
    let warnings = injected(&pod, &config()).warnings;
    assert!(
        warnings[0].contains("maybe") && warnings[1].contains("dnsPolicy"),
        "{warnings:?}"
    );
}

#[test]
fn selectors_of_the_webhook_objects() {
    let map = |pairs: &[(&str, &str)]| -> BTreeMap<String, String> {
        pairs
            .iter()
            .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
            .collect()
    };
    let (inject, rev, injection) = ("sidecar.istio.io/inject", "istio.io/rev", "istio-injection");
    for (ns, pod, called) in [
        (map(&[(injection, "enabled")]), map(&[]), true),
        (
            map(&[(injection, "enabled"), (rev, "x")]),
            map(&[(inject, "true")]),
            true,
        ),
        (
            map(&[(injection, "enabled")]),
            map(&[(inject, "false")]),
            false,
        ),
        (
            map(&[(injection, "disabled")]),
            map(&[(inject, "true")]),
            false,
        ),
        (map(&[(rev, "default")]), map(&[]), true),
        (map(&[(rev, "default")]), map(&[(inject, "false")]), false),
        (map(&[(rev, "other")]), map(&[(inject, "true")]), false),
        (map(&[]), map(&[(inject, "true")]), true),
        (map(&[]), map(&[(rev, "default")]), true),
        (map(&[]), map(&[(rev, "other"), (inject, "true")]), false),
        (map(&[]), map(&[]), false),
        (map(&[]), map(&[(inject, "false"), (rev, "default")]), false),
    ] {
        let got = sidecar_injector::policy::webhook_selects("shop", &ns, &pod, "default", false);
        assert_eq!(got, called, "{ns:?} {pod:?}");
    }
}
