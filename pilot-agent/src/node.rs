//! How this proxy presents itself to pilot: node id, cluster, locality and metadata. Pure.

use std::{collections::BTreeMap, net::IpAddr};

use serde_json::{Map, Value};

use crate::{args::Role, env::Env, proxy_config::ProxyConfig};

/// Inputs of the node.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// Kind of proxy.
    pub role: Role,
    /// Name part of the id, from `--id`.
    pub id: Option<&'a str>,
    /// DNS domain, from `--domain`.
    pub domain: Option<&'a str>,
    /// Node cluster of `--serviceCluster`.
    pub service_cluster: Option<&'a str>,
    /// The environment.
    pub env: &'a Env,
    /// The effective proxy configuration.
    pub config: &'a ProxyConfig,
    /// The same as JSON, to send to pilot.
    pub config_json: &'a Map<String, Value>,
    /// Labels of the Pod.
    pub labels: &'a BTreeMap<String, String>,
    /// Annotations of the Pod.
    pub annotations: &'a BTreeMap<String, String>,
    /// Instance addresses; pilot uses the first one.
    pub addresses: &'a [IpAddr],
    /// Names in pilot's certificate.
    pub pilot_san: &'a [String],
    /// Version of this build.
    pub version: &'a str,
    /// Port of Envoy's health listener.
    pub envoy_status_port: u16,
    /// Port of Envoy's metrics listener.
    pub envoy_prometheus_port: u16,
}

/// The node of the bootstrap.
#[derive(Debug, Clone, PartialEq)]
pub struct Node {
    /// `<type>~<ip>~<name>.<namespace>~<domain>`.
    pub id: String,
    /// Node cluster, the name of this proxy in traces.
    pub cluster: String,
    /// Region, zone and sub-zone; empty where unknown.
    pub locality: [String; 3],
    /// Metadata for pilot.
    pub metadata: Map<String, Value>,
    /// Warnings about ignored values.
    pub warnings: Vec<String>,
}

const DEFAULT_CLUSTER: &str = "istio-proxy";

/// Builds the node.
#[must_use]
pub fn build(inputs: &Inputs<'_>) -> Node {
    let (metadata, labels, warnings) = metadata(inputs);
    let env = inputs.env;
    let namespace = env.get("POD_NAMESPACE").unwrap_or_default();
    let name = inputs.id.filter(|id| !id.is_empty()).map_or_else(
        || format!("{}.{namespace}", env.get("POD_NAME").unwrap_or_default()),
        str::to_owned,
    );
    let domain = inputs
        .domain
        .filter(|domain| !domain.is_empty())
        .map_or_else(|| format!("{namespace}.svc.cluster.local"), str::to_owned);
    let address = inputs
        .addresses
        .first()
        .map(ToString::to_string)
        .unwrap_or_default();
    let workload = metadata
        .get("WORKLOAD_NAME")
        .and_then(Value::as_str)
        .unwrap_or_default();
    Node {
        id: format!("{}~{address}~{name}~{domain}", inputs.role.name()),
        cluster: cluster(inputs, &labels, workload, namespace),
        locality: locality(&labels),
        metadata,
        warnings,
    }
}

fn cluster(
    inputs: &Inputs<'_>,
    labels: &BTreeMap<String, String>,
    workload: &str,
    namespace: &str,
) -> String {
    let with_namespace = |name: &str| {
        if namespace.is_empty() {
            name.to_owned()
        } else {
            format!("{name}.{namespace}")
        }
    };
    match inputs.config.tracing_service_name.as_deref() {
        Some("CANONICAL_NAME_ONLY") => return canonical_name(labels, workload).to_owned(),
        Some("CANONICAL_NAME_AND_NAMESPACE") => {
            return with_namespace(canonical_name(labels, workload));
        }
        _ => {}
    }
    let configured = &inputs.config.service_cluster;
    if !configured.is_empty() && configured != DEFAULT_CLUSTER {
        return configured.clone();
    }
    if let Some(flag) = inputs
        .service_cluster
        .filter(|flag| !flag.is_empty() && *flag != DEFAULT_CLUSTER)
    {
        return flag.to_owned();
    }
    let name = label(labels, "app").or_else(|| Some(workload).filter(|name| !name.is_empty()));
    with_namespace(name.unwrap_or(DEFAULT_CLUSTER))
}

fn label<'a>(labels: &'a BTreeMap<String, String>, name: &str) -> Option<&'a str> {
    labels
        .get(name)
        .map(String::as_str)
        .filter(|value| !value.is_empty())
}

/// The name of the workload, the same for all its versions.
fn canonical_name<'a>(labels: &'a BTreeMap<String, String>, workload: &'a str) -> &'a str {
    [
        "service.istio.io/canonical-name",
        "app.kubernetes.io/name",
        "app",
    ]
    .into_iter()
    .find_map(|name| label(labels, name))
    .unwrap_or(workload)
}

fn locality(labels: &BTreeMap<String, String>) -> [String; 3] {
    let text = label(labels, "topology.istio.io/locality")
        .or_else(|| label(labels, "istio-locality"))
        .unwrap_or_default();
    // Label values cannot contain a slash, so dots replace it.
    let text = if text.contains('/') {
        text.to_owned()
    } else {
        text.replace('.', "/")
    };
    let mut parts = text.splitn(3, '/').map(str::to_owned);
    std::array::from_fn(|_| parts.next().unwrap_or_default())
}

fn metadata(inputs: &Inputs<'_>) -> (Map<String, Value>, BTreeMap<String, String>, Vec<String>) {
    let env = inputs.env;
    let mut map = Map::new();
    let mut warnings = Vec::new();
    for (key, value) in &inputs.config.proxy_metadata {
        if let Some(key) = key.strip_prefix("ISTIO_META_") {
            map.insert(key.to_owned(), value.as_str().into());
        }
    }
    for (key, value) in env.with_prefix("ISTIO_META_") {
        map.insert(key.to_owned(), value.into());
    }
    let mut static_labels = BTreeMap::new();
    for (key, value) in env.with_prefix("ISTIO_METAJSON_") {
        match serde_json::from_str::<Value>(value) {
            Ok(Value::Object(object)) if key == "LABELS" => {
                static_labels = object
                    .into_iter()
                    .filter_map(|(k, v)| Some((k, v.as_str()?.to_owned())))
                    .collect();
            }
            Ok(Value::Object(object)) => map.extend(object),
            Ok(_) | Err(_) => warnings.push(format!(
                "ISTIO_METAJSON_{key} is not a JSON object and is ignored"
            )),
        }
    }

    let mut put = |key: &str, value: Value| {
        let empty = match &value {
            Value::String(text) => text.is_empty(),
            Value::Object(object) => object.is_empty(),
            Value::Array(array) => array.is_empty(),
            _ => false,
        };
        if !empty {
            map.insert(key.to_owned(), value);
        }
    };
    put("NAME", env.get("POD_NAME").unwrap_or_default().into());
    put(
        "NAMESPACE",
        env.get("POD_NAMESPACE").unwrap_or_default().into(),
    );
    put(
        "SERVICE_ACCOUNT",
        env.get("SERVICE_ACCOUNT").unwrap_or_default().into(),
    );
    let addresses: Vec<String> = inputs.addresses.iter().map(ToString::to_string).collect();
    put("INSTANCE_IPS", addresses.join(",").into());
    put("PROXY_CONFIG", Value::Object(inputs.config_json.clone()));
    put(
        "PILOT_SAN",
        inputs.pilot_san.iter().map(String::as_str).collect(),
    );
    put("ENVOY_STATUS_PORT", inputs.envoy_status_port.into());
    put("ENVOY_PROMETHEUS_PORT", inputs.envoy_prometheus_port.into());
    let mut labels = static_labels.clone();
    labels.extend(inputs.labels.clone());
    labels.remove("pod-template-hash");
    let object = |from: &BTreeMap<String, String>| {
        Value::Object(
            from.iter()
                .map(|(key, value)| (key.clone(), value.as_str().into()))
                .collect(),
        )
    };
    put("LABELS", object(&labels));
    put("STATIC_LABELS", object(&static_labels));
    put("ANNOTATIONS", object(inputs.annotations));
    map.entry("CLUSTER_ID")
        .or_insert_with(|| "Kubernetes".into());
    map.entry("ISTIO_VERSION")
        .or_insert_with(|| inputs.version.into());
    (map, labels, warnings)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proxy_config::{Layers, effective};

    fn build_from(
        env: &Env,
        overlay: &str,
        labels: &[(&str, &str)],
        annotations: &[(&str, &str)],
    ) -> Node {
        let config = effective(&Layers {
            environment: Some(overlay),
            ..Layers::default()
        })
        .unwrap();
        let owned = |pairs: &[(&str, &str)]| {
            pairs
                .iter()
                .map(|(k, v)| ((*k).to_owned(), (*v).to_owned()))
                .collect()
        };
        build(&Inputs {
            role: Role::Sidecar,
            id: None,
            domain: Some("shop.svc.cluster.local"),
            service_cluster: None,
            env,
            config: &config.config,
            config_json: &config.json,
            labels: &owned(labels),
            annotations: &owned(annotations),
            addresses: &["10.1.0.5".parse().unwrap(), "fd00::5".parse().unwrap()],
            pilot_san: &["istio-pilot.istio-system.svc".to_owned()],
            version: "0.1.0",
            envoy_status_port: 15021,
            envoy_prometheus_port: 15090,
        })
    }

    fn pod() -> Vec<(&'static str, &'static str)> {
        vec![
            ("POD_NAME", "web-7d9f-x2x"),
            ("POD_NAMESPACE", "shop"),
            ("SERVICE_ACCOUNT", "web"),
        ]
    }

    #[test]
    fn id_cluster_and_every_source_of_metadata() {
        let mut vars = pod();
        vars.extend([
            ("ISTIO_META_WORKLOAD_NAME", "web"),
            ("ISTIO_META_FUTURE", "kept"),
            ("ISTIO_META_POD_PORTS", "[{\"containerPort\":8080}]"),
            (
                "ISTIO_METAJSON_LABELS",
                "{\"app\":\"old\",\"static\":\"1\"}",
            ),
            ("ISTIO_METAJSON_ANY", "{\"PLATFORM\":{\"a\":1}}"),
            ("ISTIO_METAJSON_BAD", "[1]"),
        ]);
        let env = Env::from_pairs(vars);
        let node = build_from(
            &env,
            "proxyMetadata: {ISTIO_META_FUTURE: lost, ISTIO_META_FROM_CONFIG: x, OTHER: y}",
            &[
                ("app", "web"),
                ("pod-template-hash", "7d9f"),
                ("istio-locality", "eu.eu-a"),
            ],
            &[("note", "a\n\"b\"")],
        );
        assert_eq!(
            node.id,
            "sidecar~10.1.0.5~web-7d9f-x2x.shop~shop.svc.cluster.local"
        );
        assert_eq!(node.cluster, "web.shop");
        assert_eq!(node.locality, ["eu", "eu-a", ""]);
        assert_eq!(
            node.warnings,
            ["ISTIO_METAJSON_BAD is not a JSON object and is ignored"]
        );
        let metadata = Value::Object(node.metadata);
        assert_eq!(metadata["INSTANCE_IPS"], "10.1.0.5,fd00::5");
        assert_eq!(
            metadata["LABELS"],
            serde_json::json!({"app": "web", "istio-locality": "eu.eu-a", "static": "1"})
        );
        assert_eq!(
            metadata["STATIC_LABELS"],
            serde_json::json!({"app": "old", "static": "1"})
        );
        assert_eq!(metadata["ANNOTATIONS"]["note"], "a\n\"b\"");
        assert_eq!(metadata["FUTURE"], "kept");
        assert_eq!(metadata["FROM_CONFIG"], "x");
        assert_eq!(metadata["PLATFORM"]["a"], 1);
        assert_eq!(metadata["CLUSTER_ID"], "Kubernetes");
        assert_eq!(metadata["PROXY_CONFIG"]["statusPort"], 15020);
        assert_eq!(metadata["ENVOY_STATUS_PORT"], 15021);
        assert!(metadata.get("OTHER").is_none());
    }

    #[test]
    fn cluster_falls_back_step_by_step() {
        let env = Env::from_pairs(pod());
        assert_eq!(build_from(&env, "", &[], &[]).cluster, "istio-proxy.shop");
        let mut vars = pod();
        vars.push(("ISTIO_META_WORKLOAD_NAME", "w"));
        let with_workload = Env::from_pairs(vars);
        assert_eq!(build_from(&with_workload, "", &[], &[]).cluster, "w.shop");
        assert_eq!(
            build_from(&env, "serviceCluster: mine", &[("app", "web")], &[]).cluster,
            "mine"
        );
        let canonical = [
            ("app", "web"),
            ("service.istio.io/canonical-name", "shopfront"),
        ];
        assert_eq!(
            build_from(
                &env,
                "tracingServiceName: CANONICAL_NAME_ONLY",
                &canonical,
                &[]
            )
            .cluster,
            "shopfront"
        );
        let both = build_from(
            &env,
            "tracingServiceName: CANONICAL_NAME_AND_NAMESPACE",
            &canonical,
            &[],
        );
        assert_eq!(both.cluster, "shopfront.shop");
        assert_eq!(
            build_from(&Env::default(), "", &[], &[]).cluster,
            "istio-proxy"
        );
    }
}
