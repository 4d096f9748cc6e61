//! Rules for Kubernetes objects that the mesh reads.

use serde_json::Value;

use super::primitives::protocol::Protocol;
use super::{Problem, Severity};

/// Labels that name a workload, in order of precedence.
const NAMES: [&str; 3] = [
    "service.istio.io/canonical-name",
    "app.kubernetes.io/name",
    "app",
];
/// Labels that name its version.
const REVISIONS: [&str; 3] = [
    "service.istio.io/canonical-revision",
    "app.kubernetes.io/version",
    "version",
];
const PROTOCOLS: &str = "http, http2, https, grpc, grpc-web, tls, tcp, udp, mongo, redis or mysql";

/// Problems of a Service (protocols of its ports) or a Deployment (labels by which telemetry names
/// it); other kinds have none. Not meant for objects in the control plane's namespace.
#[must_use]
pub fn validate(object: &Value) -> Vec<Problem> {
    match object.get("kind").and_then(Value::as_str) {
        Some("Service") => service(object),
        Some("Deployment") => deployment(object).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn service(object: &Value) -> Vec<Problem> {
    let ports = object.pointer("/spec/ports").and_then(Value::as_array);
    ports
        .into_iter()
        .flatten()
        .enumerate()
        .filter_map(|(index, port)| self::port(index, port))
        .collect()
}

fn port(index: usize, port: &Value) -> Option<Problem> {
    let text = |member: &str| port.get(member).and_then(Value::as_str);
    let problem = |rule, member: &str, message: String| {
        Some(Problem {
            rule,
            path: format!("spec.ports[{index}].{member}"),
            message,
            severity: Severity::Error,
            shadow: None,
        })
    };
    if text("protocol") == Some("UDP") {
        return None;
    }
    if let Some(protocol) = text("appProtocol") {
        return match Protocol::parse(protocol) {
            Some(_) => None,
            None => problem(
                "CLI-03",
                "appProtocol",
                format!("{protocol:?} is not a known protocol: want {PROTOCOLS}"),
            ),
        };
    }
    let Some(name) = text("name").filter(|name| !name.is_empty()) else {
        return problem(
            "CLI-01",
            "name",
            format!(
                "the port has no name: want PROTOCOL or PROTOCOL-SUFFIX, with PROTOCOL {PROTOCOLS}"
            ),
        );
    };
    let known = name == "grpc-web"
        || name.starts_with("grpc-web-")
        || name
            .split('-')
            .next()
            .is_some_and(|prefix| Protocol::parse(prefix).is_some());
    if known {
        return None;
    }
    problem(
        "CLI-02",
        "name",
        format!(
            "{name:?} does not begin with a protocol: want PROTOCOL or PROTOCOL-SUFFIX, with PROTOCOL {PROTOCOLS}"
        ),
    )
}

fn deployment(object: &Value) -> Option<Problem> {
    let labels = object.pointer("/spec/template/metadata/labels");
    let has = |wanted: &[&str]| {
        wanted
            .iter()
            .any(|label| labels.is_some_and(|labels| labels.get(label).is_some()))
    };
    if has(&NAMES) && has(&REVISIONS) {
        return None;
    }
    Some(Problem {
        rule: "CLI-04",
        path: "spec.template.metadata.labels".to_owned(),
        message: "telemetry cannot name the workload: want labels app and version".to_owned(),
        severity: Severity::Warning,
        shadow: None,
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn rules(object: &Value) -> Vec<(&'static str, String)> {
        let problems = validate(object);
        problems
            .into_iter()
            .map(|problem| (problem.rule, problem.path))
            .collect()
    }

    #[test]
    fn ports_name_their_protocol() {
        let service = json!({"kind": "Service", "spec": {"ports": [
            {"port": 80},
            {"name": "foo-1"},
            {"name": "http-1"},
            {"name": "x", "protocol": "UDP"},
            {"name": "x", "appProtocol": "http"},
            {"name": "http", "appProtocol": "foo"},
            {"name": "grpc-web-x"},
        ]}});
        assert_eq!(
            rules(&service),
            [
                ("CLI-01", "spec.ports[0].name".to_owned()),
                ("CLI-02", "spec.ports[1].name".to_owned()),
                ("CLI-03", "spec.ports[5].appProtocol".to_owned()),
            ]
        );
    }

    #[test]
    fn deployments_have_labels_for_telemetry() {
        let deployment = |labels: Value| json!({"kind": "Deployment", "spec": {"template": {"metadata": {"labels": labels}}}});
        assert_eq!(rules(&deployment(json!({"app": "a", "version": "v1"}))), []);
        assert_eq!(
            rules(&deployment(json!({"app": "a"}))),
            [("CLI-04", "spec.template.metadata.labels".to_owned())]
        );
        assert_eq!(rules(&json!({"kind": "Pod"})), []);
    }
}
