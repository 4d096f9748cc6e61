//! The effective ProxyConfig: layers of protobuf JSON in which later ones replace whole fields.
//!
//! Parsed with serde instead of istio-api's descriptor pool, which would stay in memory for the
//! lifetime of every Pod. Fields that the agent does not use are passed to pilot unchanged.

use std::{collections::BTreeMap, time::Duration};

use mesh_core::duration;
use serde::{Deserialize, Deserializer, de::Error as _};
use serde_json::{Map, Value, json};

use crate::args::ProxyFlags;

/// Annotation with the ProxyConfig of one Pod.
const ANNOTATION: &str = "proxy.istio.io/config";
const DISCOVERY_ANNOTATION: &str = "sidecar.istio.io/discoveryAddress";
const STATUS_PORT_ANNOTATION: &str = "status.sidecar.istio.io/port";

/// Fields with user-defined keys, which must not be renamed.
const FREE_KEYS: [&str; 3] = ["proxyMetadata", "runtimeValues", "customTags"];

/// Why the configuration cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A layer is not a YAML or JSON object.
    #[error("proxy configuration from {source_name}: {problem}")]
    Syntax {
        /// The layer.
        source_name: String,
        /// What is wrong.
        problem: String,
    },
    /// A field has a value of the wrong type or out of range.
    #[error("proxy configuration: {0}")]
    Field(String),
}

/// The text of each layer.
#[derive(Debug, Clone, Default)]
pub struct Layers<'a> {
    /// The mesh configuration file.
    pub mesh: Option<&'a str>,
    /// Variable `PROXY_CONFIG`.
    pub environment: Option<&'a str>,
    /// The Pod's annotations.
    pub annotations: Option<&'a BTreeMap<String, String>>,
    /// The command line.
    pub flags: Option<&'a ProxyFlags>,
}

/// The fields that the agent uses, with defaults. Field names as in `mesh/v1alpha1/proxy.proto`.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase")]
#[allow(
    missing_docs,
    reason = "the names and meanings are those of the Istio API"
)]
pub struct ProxyConfig {
    pub config_path: String,
    pub binary_path: String,
    #[serde(default)]
    pub service_cluster: String,
    #[serde(default)]
    pub tracing_service_name: Option<String>,
    #[serde(deserialize_with = "time")]
    pub drain_duration: Duration,
    #[serde(deserialize_with = "time")]
    pub termination_drain_duration: Duration,
    #[serde(deserialize_with = "time")]
    pub connect_timeout: Duration,
    pub discovery_address: String,
    #[serde(deserialize_with = "auth_policy")]
    pub control_plane_auth_policy: AuthPolicy,
    #[serde(deserialize_with = "integer")]
    pub proxy_admin_port: u16,
    #[serde(deserialize_with = "integer")]
    pub status_port: u16,
    #[serde(default, deserialize_with = "maybe_integer")]
    pub concurrency: Option<u32>,
    #[serde(default)]
    pub custom_config_file: String,
    #[serde(default)]
    pub proxy_bootstrap_template_path: String,
    #[serde(default)]
    pub statsd_udp_address: String,
    #[serde(default)]
    pub envoy_metrics_service_address: String,
    #[serde(default)]
    pub envoy_metrics_service: RemoteService,
    #[serde(default)]
    pub envoy_access_log_service: RemoteService,
    #[serde(default)]
    pub tracing: Tracing,
    #[serde(default)]
    pub proxy_metadata: BTreeMap<String, String>,
    #[serde(default)]
    pub extra_stat_tags: Vec<String>,
    #[serde(default)]
    pub proxy_stats_matcher: StatsMatcher,
    #[serde(default)]
    pub runtime_values: BTreeMap<String, String>,
    #[serde(default, deserialize_with = "maybe_time")]
    pub file_flush_interval: Option<Duration>,
    #[serde(default, deserialize_with = "maybe_integer")]
    pub file_flush_min_size_kb: Option<u32>,
    #[serde(default)]
    pub stats_compression: Option<bool>,
    #[serde(default)]
    pub ca_certificates_pem: Vec<String>,
    #[serde(default)]
    pub mesh_id: String,
}

/// Authentication of connections to pilot.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum AuthPolicy {
    /// Plaintext.
    None,
    /// Mutual TLS with the workload certificate.
    MutualTls,
}

/// An external server.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct RemoteService {
    /// host:port.
    #[serde(default)]
    pub address: String,
}

/// The tracer in the bootstrap.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Tracing {
    /// Zipkin collector.
    #[serde(default)]
    pub zipkin: Option<RemoteService>,
    /// Datadog agent.
    #[serde(default)]
    pub datadog: Option<RemoteService>,
    /// No longer supported by Envoy; refused.
    #[serde(default)]
    pub lightstep: Option<Value>,
}

/// Statistics to keep in addition to the required ones.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct StatsMatcher {
    /// Prefixes of names.
    #[serde(default)]
    pub inclusion_prefixes: Vec<String>,
    /// Suffixes of names.
    #[serde(default)]
    pub inclusion_suffixes: Vec<String>,
    /// Regular expressions over names.
    #[serde(default)]
    pub inclusion_regexps: Vec<String>,
}

/// The typed fields and the complete effective configuration.
#[derive(Debug, Clone)]
pub struct Effective {
    /// Typed fields.
    pub config: ProxyConfig,
    /// All fields, as protobuf JSON.
    pub json: Map<String, Value>,
}

/// Merges all layers: default < mesh file < environment < annotation < flags < single annotations.
///
/// # Errors
/// If a layer is not a YAML or JSON object, a field has the wrong type, or Envoy lacks the tracer.
pub fn effective(layers: &Layers<'_>) -> Result<Effective, Error> {
    let mut merged = defaults();
    if let Some(text) = layers.mesh {
        let mut mesh = object("the mesh configuration file", text)?;
        if let Some(Value::Object(config)) = mesh.remove("defaultConfig") {
            overlay(&mut merged, config);
        }
    }
    if let Some(text) = layers.environment {
        overlay(&mut merged, object("the variable PROXY_CONFIG", text)?);
    }
    let annotation = |name: &str| {
        layers
            .annotations
            .and_then(|all| all.get(name))
            .map(String::as_str)
    };
    if let Some(text) = annotation(ANNOTATION) {
        overlay(
            &mut merged,
            object("the annotation proxy.istio.io/config", text)?,
        );
    }
    if let Some(flags) = layers.flags {
        overlay(&mut merged, from_flags(flags));
    }
    if let Some(address) = annotation(DISCOVERY_ANNOTATION) {
        merged.insert("discoveryAddress".to_owned(), address.into());
    }
    if let Some(port) = annotation(STATUS_PORT_ANNOTATION) {
        merged.insert("statusPort".to_owned(), port.into());
    }
    let config: ProxyConfig = serde_path(&merged)
        .map_err(|(field, problem)| Error::Field(format!("{field}: {problem}")))?;
    if config.tracing.lightstep.is_some() {
        return Err(Error::Field(
            "tracing.lightstep: Envoy has no LightStep tracer any more; use zipkin".to_owned(),
        ));
    }
    Ok(Effective {
        config,
        json: merged,
    })
}

fn defaults() -> Map<String, Value> {
    let Value::Object(defaults) = json!({
        "configPath": "/etc/istio/proxy",
        "binaryPath": "/usr/local/bin/envoy",
        "serviceCluster": "istio-proxy",
        "drainDuration": "45s",
        "terminationDrainDuration": "5s",
        "connectTimeout": "1s",
        "discoveryAddress": "istio-pilot.istio-system.svc:15012",
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "proxyAdminPort": 15000,
        "statNameLength": 189,
        "statusPort": 15020,
        "interceptionMode": "REDIRECT",
    }) else {
        return Map::new();
    };
    defaults
}

/// Deserializes and names the offending field, which is found by trying each field alone.
fn serde_path(merged: &Map<String, Value>) -> Result<ProxyConfig, (String, String)> {
    ProxyConfig::deserialize(Value::Object(merged.clone())).map_err(|error| {
        let culprit = merged.keys().find(|key| {
            let mut without = merged.clone();
            let default = defaults().remove(*key);
            match default {
                Some(value) => without.insert((*key).clone(), value),
                None => without.remove(*key),
            };
            ProxyConfig::deserialize(Value::Object(without)).is_ok()
        });
        (
            culprit.map_or_else(|| "several fields".to_owned(), Clone::clone),
            error.to_string(),
        )
    })
}

fn object(source_name: &str, text: &str) -> Result<Map<String, Value>, Error> {
    let error = |problem: String| Error::Syntax {
        source_name: source_name.to_owned(),
        problem,
    };
    let value: Value = serde_yaml::from_str(text)
        .map_err(|e| error(format!("it is neither valid YAML nor JSON: {e}")))?;
    match camel_case(value) {
        Value::Object(map) => Ok(map),
        Value::Null => Ok(Map::new()),
        _ => Err(error("it is not an object".to_owned())),
    }
}

/// Protobuf JSON allows two spellings of a field name; layers need a common one.
fn camel_case(value: Value) -> Value {
    match value {
        Value::Object(map) => Value::Object(
            map.into_iter()
                .map(|(key, value)| {
                    let key = camel(&key);
                    let value = if FREE_KEYS.contains(&key.as_str()) {
                        value
                    } else {
                        camel_case(value)
                    };
                    (key, value)
                })
                .collect(),
        ),
        Value::Array(items) => Value::Array(items.into_iter().map(camel_case).collect()),
        other => other,
    }
}

fn camel(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        match c {
            '_' => upper = true,
            c if upper => {
                out.push(c.to_ascii_uppercase());
                upper = false;
            }
            c => out.push(c),
        }
    }
    out
}

fn overlay(below: &mut Map<String, Value>, above: Map<String, Value>) {
    for (key, value) in above {
        // The two fields exclude each other: setting one clears the other.
        match key.as_str() {
            "serviceCluster" => below.remove("tracingServiceName"),
            "tracingServiceName" => below.remove("serviceCluster"),
            _ => None,
        };
        if !value.is_null() {
            below.insert(key, value);
        }
    }
}

fn from_flags(flags: &ProxyFlags) -> Map<String, Value> {
    let mut map = Map::new();
    let mut put = |key: &str, value: Option<Value>| {
        if let Some(value) = value {
            map.insert(key.to_owned(), value);
        }
    };
    let text = |value: &Option<String>| {
        value
            .clone()
            .filter(|text| !text.is_empty())
            .map(Value::from)
    };
    put("statusPort", flags.status_port.map(Value::from));
    put("configPath", text(&flags.config_path));
    put("binaryPath", text(&flags.binary_path));
    put("drainDuration", text(&flags.drain_duration));
    put("discoveryAddress", text(&flags.discovery_address));
    put("connectTimeout", text(&flags.connect_timeout));
    put(
        "controlPlaneAuthPolicy",
        text(&flags.control_plane_auth_policy),
    );
    put("statsdUdpAddress", text(&flags.statsd_udp_address));
    put(
        "envoyMetricsService",
        text(&flags.envoy_metrics_service_address).map(|at| json!({"address": at})),
    );
    put("proxyAdminPort", flags.proxy_admin_port.map(Value::from));
    put("customConfigFile", text(&flags.custom_config_file));
    put("proxyBootstrapTemplatePath", text(&flags.template_file));
    put("concurrency", flags.concurrency.map(Value::from));
    let tracer = text(&flags.lightstep_address)
        .map(|at| json!({"lightstep": {"address": at}}))
        .or_else(|| text(&flags.zipkin_address).map(|at| json!({"zipkin": {"address": at}})))
        .or_else(|| {
            text(&flags.datadog_agent_address).map(|at| json!({"datadog": {"address": at}}))
        });
    put("tracing", tracer);
    map
}

fn time<'de, D: Deserializer<'de>>(from: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(from)?;
    duration::parse(text.trim()).map_err(|_| {
        D::Error::custom(format!(
            "invalid duration {text:?}: want a number with a unit, such as 5s"
        ))
    })
}

fn maybe_time<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Duration>, D::Error> {
    time(from).map(Some)
}

fn integer<'de, D: Deserializer<'de>, T: TryFrom<u64>>(from: D) -> Result<T, D::Error> {
    let value = Value::deserialize(from)?;
    let number = match &value {
        Value::String(text) => text.parse().ok(),
        Value::Number(number) => number.as_u64(),
        _ => None,
    };
    number
        .and_then(|number: u64| T::try_from(number).ok())
        .ok_or_else(|| D::Error::custom(format!("{value} is not a number in the allowed range")))
}

fn maybe_integer<'de, D: Deserializer<'de>>(from: D) -> Result<Option<u32>, D::Error> {
    integer(from).map(Some)
}

fn auth_policy<'de, D: Deserializer<'de>>(from: D) -> Result<AuthPolicy, D::Error> {
    match Value::deserialize(from)? {
        Value::String(name) if name == "NONE" => Ok(AuthPolicy::None),
        Value::String(name) if name == "MUTUAL_TLS" => Ok(AuthPolicy::MutualTls),
        Value::Number(number) if number.as_u64() == Some(0) => Ok(AuthPolicy::None),
        Value::Number(number) if number.as_u64() == Some(1) => Ok(AuthPolicy::MutualTls),
        other => Err(D::Error::custom(format!(
            "{other} is neither NONE nor MUTUAL_TLS"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn later_layers_replace_whole_fields() {
        let annotations = BTreeMap::from([
            (
                ANNOTATION.to_owned(),
                "{\"concurrency\": 3, \"extraStatTags\": [\"c\"]}".to_owned(),
            ),
            (
                DISCOVERY_ANNOTATION.to_owned(),
                "pilot.other.svc:15012".to_owned(),
            ),
        ]);
        let flags = ProxyFlags {
            status_port: Some(15030),
            concurrency: Some(4),
            ..ProxyFlags::default()
        };
        let layers = Layers {
            mesh: Some(
                "trustDomain: x\ndefaultConfig:\n  drain_duration: 20s\n  concurrency: 1\n  extraStatTags: [a, b]\n",
            ),
            environment: Some(
                "concurrency: 2\nproxyMetadata: {ISTIO_META_some_key: v}\nstatusPort: '15021'",
            ),
            annotations: Some(&annotations),
            flags: Some(&flags),
        };
        let found = effective(&layers).unwrap();
        assert_eq!(found.config.drain_duration, Duration::from_secs(20));
        assert_eq!(found.config.concurrency, Some(4));
        assert_eq!(found.config.extra_stat_tags, ["c"]);
        assert_eq!(found.config.status_port, 15030);
        assert_eq!(found.config.discovery_address, "pilot.other.svc:15012");
        assert_eq!(found.config.proxy_metadata["ISTIO_META_some_key"], "v");
        assert_eq!(found.json["drainDuration"], "20s");
    }

    #[test]
    fn defaults_are_complete() {
        let found = effective(&Layers::default()).unwrap().config;
        assert_eq!(found.config_path, "/etc/istio/proxy");
        assert_eq!(found.control_plane_auth_policy, AuthPolicy::MutualTls);
        assert_eq!(found.termination_drain_duration, Duration::from_secs(5));
        assert_eq!(found.concurrency, None);
    }

    #[test]
    fn problems_name_layer_and_field() {
        let of = |text: &str| {
            effective(&Layers {
                environment: Some(text),
                ..Layers::default()
            })
            .unwrap_err()
            .to_string()
        };
        assert!(of("[1]").contains("PROXY_CONFIG: it is not an object"));
        assert_eq!(
            of("statusPort: 99999"),
            "proxy configuration: statusPort: 99999 is not a number in the allowed range"
        );
        assert!(
            of("drainDuration: soon")
                .starts_with("proxy configuration: drainDuration: invalid duration \"soon\"")
        );
        assert!(of("tracing: {lightstep: {address: a:1}}").contains("LightStep"));
        assert!(of("concurrency: -1").contains("concurrency"));
    }

    #[test]
    fn service_cluster_and_tracing_service_name_exclude_each_other() {
        let of = |text: &str| {
            effective(&Layers {
                environment: Some(text),
                ..Layers::default()
            })
            .unwrap()
            .config
        };
        assert_eq!(
            of("tracingServiceName: CANONICAL_NAME_ONLY").service_cluster,
            ""
        );
        assert_eq!(of("serviceCluster: mine").service_cluster, "mine");
    }
}
