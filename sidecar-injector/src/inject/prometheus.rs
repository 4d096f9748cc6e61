//! Scraping through the agent: the Pod's annotations point to the agent, which adds the
//! application's metrics to its own.

use crate::config::Mesh;
use crate::pod;
use serde_json::Value;

const VARIABLE: &str = "ISTIO_PROMETHEUS_ANNOTATIONS";
const MERGE: &str = "prometheus.istio.io/merge-metrics";
const PATH: &str = "/stats/prometheus";

/// Value of an annotation in any of its spellings: `prometheus.io/port`, `prometheus.io.port`, …
fn spelled<'p>(pod: &'p Value, what: &str) -> Option<&'p str> {
    ["/", ".", "-", "_"].iter().find_map(|separator| {
        [
            "prometheus.io",
            "prometheus-io",
            "prometheus_io",
            "prometheus/io",
        ]
        .iter()
        .find_map(|base| pod::annotation(pod, &format!("{base}{separator}{what}")))
    })
}

fn is_spelling(name: &str) -> bool {
    let plain: String = name
        .chars()
        .map(|c| if matches!(c, '.' | '-' | '_') { '/' } else { c })
        .collect();
    matches!(
        plain.as_str(),
        "prometheus/io/scrape" | "prometheus/io/port" | "prometheus/io/path"
    )
}

/// Go's `strconv.ParseBool`.
pub(super) fn parse_bool(text: &str) -> Option<bool> {
    match text {
        "1" | "t" | "T" | "true" | "TRUE" | "True" => Some(true),
        "0" | "f" | "F" | "false" | "FALSE" | "False" => Some(false),
        _ => None,
    }
}

/// Redirects scraping to the status port, unless the Pod disables scraping or merging or it was
/// done before.
pub(super) fn merge(pod: &mut Value, mesh: &Mesh, status_port: u16) {
    if status_port == 0 || spelled(pod, "scrape").and_then(parse_bool) == Some(false) {
        return;
    }
    let wanted = pod::annotation(pod, MERGE).and_then(parse_bool);
    if !wanted.unwrap_or_else(|| mesh.prometheus_merge()) {
        return;
    }
    let port = status_port.to_string();
    if spelled(pod, "port") == Some(port.as_str()) {
        return;
    }
    let text = |what| spelled(pod, what).unwrap_or_default().to_owned();
    let (scrape, path, own_port) = (text("scrape"), text("path"), text("port"));
    let was_set = [&scrape, &path, &own_port]
        .iter()
        .any(|text| !text.is_empty());
    let Some(proxy) = pod::proxy_mut(pod) else {
        return;
    };
    if was_set {
        let quoted = |text: String| Value::from(text).to_string();
        let json = format!(
            r#"{{"scrape":{},"path":{},"port":{}}}"#,
            quoted(scrape),
            quoted(path),
            quoted(own_port)
        );
        pod::set_env(proxy, VARIABLE, &json);
    }
    let annotations = pod
        .get_mut("metadata")
        .and_then(|metadata| metadata.get_mut("annotations"))
        .and_then(Value::as_object_mut);
    if let Some(annotations) = annotations {
        annotations.retain(|name, _| !is_spelling(name));
    }
    for (name, value) in [
        ("prometheus.io/scrape", "true".to_owned()),
        ("prometheus.io/port", port),
        ("prometheus.io/path", PATH.to_owned()),
    ] {
        pod::set_metadata(pod, "annotations", name, value);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn merged(annotations: Value) -> (Value, Option<String>) {
        let mut pod = json!({"metadata": {"annotations": annotations},
            "spec": {"containers": [{"name": "istio-proxy"}]}});
        merge(&mut pod, &Mesh::default(), 15020);
        let env = pod::env(pod::proxy(&pod).unwrap(), VARIABLE).map(str::to_owned);
        (pod["metadata"]["annotations"].clone(), env)
    }

    fn ours() -> Value {
        json!({"prometheus.io/scrape": "true", "prometheus.io/port": "15020", "prometheus.io/path": PATH})
    }

    #[test]
    fn own_annotations_move_to_the_agent() {
        let (annotations, env) = merged(
            json!({"prometheus.io/scrape": "true", "prometheus.io-port": "9102", "prometheus.io.path": "/m"}),
        );
        assert_eq!(annotations, ours());
        assert_eq!(
            env.as_deref(),
            Some(r#"{"scrape":"true","path":"/m","port":"9102"}"#)
        );
    }

    #[test]
    fn pods_without_annotations_are_scraped_through_the_agent_alone() {
        assert_eq!(merged(json!({})), (ours(), None));
    }

    #[test]
    fn refusals_and_earlier_work_are_left_alone() {
        for annotations in [
            json!({"prometheus.io/scrape": "false", "prometheus.io/port": "1"}),
            json!({"prometheus.istio.io/merge-metrics": "false"}),
            ours(),
        ] {
            assert_eq!(merged(annotations.clone()), (annotations, None));
        }
    }
}
