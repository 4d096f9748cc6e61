//! Mesh configuration, and the proxy configuration of a Pod.

use istio_api::json::{self, Unknown};
use serde_json::{Map, Value, json};
use std::sync::LazyLock;

const MESH: &str = "istio.mesh.v1alpha1.MeshConfig";
const PROXY: &str = "istio.mesh.v1alpha1.ProxyConfig";
/// Maps that are merged by key; other members of a proxy configuration are replaced as a whole.
const MERGED: [&str; 2] = ["proxyMetadata", "runtimeValues"];

/// Defaults of the proxy, the same as in the agent.
static PROXY_DEFAULTS: LazyLock<Map<String, Value>> = LazyLock::new(|| {
    object(json!({
        "binaryPath": "/usr/local/bin/envoy",
        "configPath": "/etc/istio/proxy",
        "controlPlaneAuthPolicy": "MUTUAL_TLS",
        "discoveryAddress": "istio-pilot.istio-system.svc:15012",
        "drainDuration": "45s",
        "interceptionMode": "REDIRECT",
        "proxyAdminPort": 15000,
        "serviceCluster": "istio-proxy",
        "statNameLength": 189,
        "statusPort": 15020,
        "terminationDrainDuration": "5s",
    }))
});

fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// Mesh configuration with defaults.
#[derive(Clone, Debug)]
pub struct Mesh {
    config: Map<String, Value>,
    proxy: Map<String, Value>,
}

impl Default for Mesh {
    fn default() -> Self {
        Self::from_members(Map::new())
    }
}

impl Mesh {
    /// Parses YAML; an empty text selects the defaults.
    ///
    /// # Errors
    /// All members with invalid values. Unknown members are ignored.
    pub fn parse(text: &str) -> Result<Self, String> {
        Ok(Self::from_members(members(MESH, text)?))
    }

    fn from_members(given: Map<String, Value>) -> Self {
        let mut config = object(json!({
            "enablePrometheusMerge": true,
            "inboundTrafficPolicy": {"mode": "PASSTHROUGH"},
            "rootNamespace": "istio-system",
            "trustDomain": "cluster.local",
        }));
        config.extend(given);
        let mut proxy = PROXY_DEFAULTS.clone();
        if let Some(Value::Object(given)) = config.get("defaultConfig").cloned() {
            lay_over(&mut proxy, given);
        }
        config.insert("defaultConfig".to_owned(), Value::Object(proxy.clone()));
        Self { config, proxy }
    }

    /// The complete configuration as JSON, in camelCase.
    pub fn config(&self) -> Value {
        Value::Object(self.config.clone())
    }

    /// Proxy configuration of a Pod; `annotation` is its own part, as YAML.
    ///
    /// # Errors
    /// All members of the annotation with invalid values.
    pub fn proxy_config(&self, annotation: Option<&str>) -> Result<Value, String> {
        let mut proxy = self.proxy.clone();
        if let Some(text) = annotation {
            lay_over(&mut proxy, members(PROXY, text)?);
        }
        Ok(Value::Object(proxy))
    }

    /// Whether metrics are scraped through the agent unless the Pod says otherwise.
    pub fn prometheus_merge(&self) -> bool {
        self.config
            .get("enablePrometheusMerge")
            .and_then(Value::as_bool)
            != Some(false)
    }

    /// The members of a proxy configuration that differ from the defaults.
    pub(crate) fn without_defaults(proxy: &Map<String, Value>) -> Map<String, Value> {
        let differs = |(key, value): &(&String, &Value)| PROXY_DEFAULTS.get(*key) != Some(*value);
        proxy
            .iter()
            .filter(differs)
            .map(|(key, value)| (key.clone(), value.clone()))
            .collect()
    }
}

fn lay_over(base: &mut Map<String, Value>, given: Map<String, Value>) {
    for (key, value) in given {
        match (base.get_mut(&key), value) {
            (Some(Value::Object(old)), Value::Object(new)) if MERGED.contains(&key.as_str()) => {
                old.extend(new);
            }
            (_, value) => {
                base.insert(key, value);
            }
        }
    }
}

/// Parses members of a message from YAML into their canonical form.
fn members(message: &str, text: &str) -> Result<Map<String, Value>, String> {
    let given: Value = serde_yaml::from_str(text).map_err(|error| error.to_string())?;
    let given = match given {
        Value::Null => return Ok(Map::new()),
        Value::Object(map) => map,
        _ => return Err("want an object".to_owned()),
    };
    let joined = |issues: Vec<json::FieldIssue>| {
        issues
            .iter()
            .map(ToString::to_string)
            .collect::<Vec<_>>()
            .join("; ")
    };
    let given = Value::Object(given);
    let (bytes, unknown) = json::read_dynamic(message, &given, Unknown::Prune).map_err(joined)?;
    let written = json::write(message, &bytes).map_err(|error| error.to_string())?;
    let mut members = object(written);
    // Zero values are lost in the wire format, but here they override a default.
    for (key, value) in object(given) {
        let key = camel_case(&key);
        let known = !unknown.iter().any(|issue| camel_case(&issue.path) == key);
        if known && !value.is_null() {
            members.entry(key).or_insert(value);
        }
    }
    Ok(members)
}

fn camel_case(name: &str) -> String {
    let mut out = String::with_capacity(name.len());
    let mut upper = false;
    for c in name.chars() {
        if c == '_' {
            upper = true;
        } else if std::mem::take(&mut upper) {
            out.push(c.to_ascii_uppercase());
        } else {
            out.push(c);
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn annotation_lies_over_mesh_over_defaults() {
        let mesh = Mesh::parse(
            "trustDomain: td\ndefaultConfig:\n  concurrency: 1\n  drain_duration: 1m30s\n  proxyMetadata: {A: '1', B: '1'}\n",
        )
        .unwrap();
        let proxy = mesh
            .proxy_config(Some(
                "concurrency: 2\nproxyMetadata: {B: '2'}\nstatusPort: 0\nnope: 1",
            ))
            .unwrap();
        assert_eq!(proxy["concurrency"], 2);
        assert_eq!(proxy["drainDuration"], "90s");
        assert_eq!(proxy["proxyMetadata"], json!({"A": "1", "B": "2"}));
        assert_eq!(proxy["statusPort"], 0);
        assert_eq!(proxy["binaryPath"], "/usr/local/bin/envoy");
        assert!(proxy.get("nope").is_none());
        assert_eq!(mesh.config()["trustDomain"], "td");
    }

    #[test]
    fn only_what_differs_is_written() {
        let proxy = Mesh::default()
            .proxy_config(Some("statusPort: 15020\nconcurrency: 2"))
            .unwrap();
        let short = Mesh::without_defaults(proxy.as_object().unwrap());
        assert_eq!(Value::Object(short), json!({"concurrency": 2}));
    }

    #[test]
    fn wrong_values_are_named() {
        let error = Mesh::default()
            .proxy_config(Some("concurrency: many\nstatusPort: x"))
            .unwrap_err();
        assert!(
            error.contains("concurrency") && error.contains("statusPort"),
            "{error}"
        );
        assert!(Mesh::parse("[]").is_err());
        assert!(Mesh::parse("a: [").is_err());
    }
}
