use proptest::prelude::*;
use serde_json::{Value, json};

use super::{Answer, Outcome, Reason, answer};

fn review(object: Value) -> Value {
    json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "request": {
            "uid": "u-1",
            "kind": {"group": "networking.istio.io", "version": "v1", "kind": "Gateway"},
            "resource": {"group": "networking.istio.io", "version": "v1", "resource": "gateways"},
            "namespace": "shop",
            "name": "gw",
            "operation": "CREATE",
            "object": object,
        },
    })
}

fn asked(review: &Value) -> Answer {
    answer(review.to_string().as_bytes()).unwrap()
}

fn gateway(spec: Value) -> Value {
    json!({
        "apiVersion": "networking.istio.io/v1",
        "kind": "Gateway",
        "metadata": {"name": "gw", "namespace": "shop"},
        "spec": spec,
    })
}

fn good() -> Value {
    let port = json!({"number": 80, "name": "http", "protocol": "HTTP"});
    gateway(json!({"servers": [{"port": port, "hosts": ["a.com"]}]}))
}

fn refusal(review: &Value) -> (Reason, String) {
    let answer = asked(review);
    assert_eq!(answer.body["response"]["allowed"], false);
    assert_eq!(answer.body["response"]["status"]["message"], answer.message);
    match answer.outcome {
        Outcome::Refused(reason) => (reason, answer.message),
        Outcome::Passed => panic!("passed"),
    }
}

fn warnings(answer: &Answer) -> Vec<&str> {
    let list = answer.body["response"]["warnings"].as_array();
    list.into_iter()
        .flatten()
        .filter_map(Value::as_str)
        .collect()
}

#[test]
fn a_good_object_passes() {
    let answer = asked(&review(good()));
    let expected = json!({
        "apiVersion": "admission.k8s.io/v1",
        "kind": "AdmissionReview",
        "response": {"uid": "u-1", "allowed": true},
    });
    assert_eq!((answer.body, answer.outcome), (expected, Outcome::Passed));
    assert_eq!(answer.subject, "Gateway shop/gw");
}

#[test]
fn every_error_is_in_the_message() {
    let spec = json!({"servers": [{"port": {"number": 99999, "protocol": "ZZZ"}}]});
    let (reason, message) = refusal(&review(gateway(spec)));
    assert_eq!(reason, Reason::InvalidResource);
    let mut lines = message.lines();
    let first = lines.next().unwrap();
    let lines: Vec<_> = lines.collect();
    assert_eq!(
        first,
        format!("configuration is invalid: {} errors occurred:", lines.len())
    );
    for wanted in [
        "servers[0].hosts",
        "servers[0].port.number",
        "port.protocol",
    ] {
        let found = lines
            .iter()
            .any(|line| line.starts_with("\t* spec.") && line.contains(wanted));
        assert!(found, "{wanted} in {message}");
    }
    let body = asked(&review(gateway(json!({})))).body;
    assert_eq!(body["response"]["status"]["code"], 422);
    assert_eq!(body["response"]["status"]["reason"], "Invalid");
}

#[test]
fn one_error_stands_alone_and_a_dry_run_says_so() {
    let mut review = review(gateway(json!({})));
    let (_, message) = refusal(&review);
    assert!(
        message.starts_with("configuration is invalid: spec.servers: "),
        "{message}"
    );
    review["request"]["dryRun"] = json!(true);
    assert_eq!(refusal(&review).1, format!("{message} (dry run)"));
}

#[test]
fn what_cannot_be_read_is_refused_with_the_prefix_of_1_1() {
    let cases = [
        (
            json!(null),
            Reason::YamlDecodeError,
            "cannot decode configuration: ",
        ),
        (
            json!([]),
            Reason::YamlDecodeError,
            "cannot decode configuration: ",
        ),
        (
            json!({"kind": "Gateway"}),
            Reason::YamlDecodeError,
            "cannot decode configuration: ",
        ),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": [good(), good()]}),
            Reason::YamlDecodeError,
            "cannot decode configuration: ",
        ),
        (
            json!({"apiVersion": "v1", "kind": "List", "items": [good()]}),
            Reason::YamlDecodeError,
            "cannot decode configuration: ",
        ),
        (
            json!({"apiVersion": "a.io/v1", "kind": "Gateway", "metadata": {"name": "a"}}),
            Reason::UnknownType,
            "unrecognized type Gateway",
        ),
        (
            gateway(json!({"servers": "x"})),
            Reason::CrdConversionError,
            "error decoding configuration: spec.servers: ",
        ),
    ];
    for (object, reason, prefix) in cases {
        let (found, message) = refusal(&review(object.clone()));
        assert_eq!(found, reason, "{object}: {message}");
        assert!(message.starts_with(prefix), "{object}: {message}");
    }
}

#[test]
fn members_beside_the_five_are_refused() {
    let mut object = good();
    object["specs"] = json!({});
    let (reason, message) = refusal(&review(object));
    assert_eq!(reason, Reason::InvalidResource);
    assert!(
        message.starts_with("unknown field \"specs\" on Gateway resource shop/gw"),
        "{message}"
    );
}

#[test]
fn what_is_ignored_or_deprecated_is_told() {
    let mut object = good();
    object["spec"]["servers"][0]["hostz"] = json!([]);
    let answer = asked(&review(object));
    assert_eq!(
        warnings(&answer),
        ["unknown field \"spec.servers[0].hostz\""]
    );
    assert_eq!(answer.outcome, Outcome::Passed);

    let policy = json!({
        "apiVersion": "authentication.istio.io/v1alpha1",
        "kind": "Policy",
        "metadata": {"name": "default", "namespace": "shop"},
        "spec": {"peers": [{"mtls": null}]},
    });
    let answer = asked(&review(policy));
    let found = warnings(&answer);
    assert!(
        found
            .iter()
            .any(|text| text.starts_with("Policy is deprecated: ")),
        "{found:?}"
    );

    let filter = json!({
        "apiVersion": "networking.istio.io/v1alpha3",
        "kind": "EnvoyFilter",
        "metadata": {"name": "a", "namespace": "shop"},
    });
    let answer = asked(&review(filter));
    let found = warnings(&answer);
    assert!(
        found
            .iter()
            .any(|text| text.starts_with("spec.configPatches: ")),
        "{found:?}"
    );
}

#[test]
fn many_warnings_are_cut() {
    let mut object = good();
    for i in 0..50 {
        object["spec"][format!("x{i:02}")] = json!(1);
    }
    let answer = asked(&review(object));
    let found = warnings(&answer);
    assert_eq!(found.len(), 21);
    assert_eq!(found[20], "30 more warnings are not listed");
}

#[test]
fn a_kind_of_ours_without_rules_passes_with_a_warning() {
    let object = json!({
        "apiVersion": "security.istio.io/v9",
        "kind": "Novelty",
        "metadata": {"name": "a"},
    });
    let answer = asked(&review(object));
    assert_eq!(answer.outcome, Outcome::Passed);
    assert_eq!(warnings(&answer).len(), 1);
}

#[test]
fn other_operations_pass() {
    for operation in ["DELETE", "CONNECT", ""] {
        let mut review = review(json!(null));
        review["request"]["operation"] = json!(operation);
        assert_eq!(asked(&review).outcome, Outcome::Passed, "{operation}");
    }
}

#[test]
fn names_that_are_still_to_be_made_are_no_error() {
    let mut object = good();
    object["metadata"] = json!({"generateName": "gw-"});
    assert_eq!(asked(&review(object)).outcome, Outcome::Passed);
}

#[test]
fn the_self_test_is_refused_and_not_logged() {
    let mut object = good();
    let annotations = json!({"internal.istio.io/webhook-always-reject": "true"});
    object["metadata"]["annotations"] = annotations;
    let answer = asked(&review(object));
    assert_eq!(answer.outcome, Outcome::Refused(Reason::InvalidResource));
    assert!(answer.quiet);
}

#[test]
fn what_is_no_review_is_refused_and_one_without_a_request_is_an_error() {
    for body in [
        "",
        "x",
        "[]",
        "{}",
        r#"{"apiVersion": "v1", "kind": "Pod"}"#,
    ] {
        let answer = answer(body.as_bytes()).unwrap();
        assert_eq!(answer.outcome, Outcome::Refused(Reason::YamlDecodeError));
        assert!(
            answer.message.starts_with("could not decode body:"),
            "{}",
            answer.message
        );
    }
    let body = r#"{"apiVersion": "admission.k8s.io/v1", "kind": "AdmissionReview"}"#;
    assert!(answer(body.as_bytes()).is_err());
}

proptest! {
    /// Whatever comes, there is an answer that an API server understands, or an error.
    #[test]
    fn no_bytes_are_too_much(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(answer) = answer(&bytes) {
            prop_assert!(answer.body["response"]["allowed"].is_boolean());
        }
    }

    #[test]
    fn no_object_is_too_much(text in "[{}\\[\\]\":,a-z0-9 ]{0,80}", path in 0..4_usize) {
        let piece = serde_json::from_str(&text).unwrap_or_else(|_| json!(text));
        let mut object = good();
        match path {
            0 => object = piece,
            1 => object["metadata"] = piece,
            2 => object["spec"] = piece,
            _ => object["spec"]["servers"][0]["port"] = piece,
        }
        let answer = asked(&review(object));
        prop_assert!(answer.body["response"]["allowed"].is_boolean());
    }
}
