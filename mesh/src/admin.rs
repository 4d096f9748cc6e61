//! The admin interface of an Envoy in a Pod.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::http::Http;
use crate::platform::World;

/// Admin interface of one Envoy.
#[derive(Clone, Debug)]
pub struct Envoy {
    http: Http,
}

impl World {
    /// The admin interface of the Envoy in `pod`.
    #[must_use]
    pub fn envoy(&self, pod: &str) -> Envoy {
        Envoy::new(self.http_from(pod))
    }
}

impl Envoy {
    pub(crate) fn new(http: Http) -> Self {
        Self { http }
    }

    /// The body of an admin page.
    ///
    /// # Errors
    /// When Envoy does not answer 200.
    pub async fn get(&self, path: &str) -> Result<String> {
        let answer = self
            .http
            .get(&format!("http://127.0.0.1:15000{path}"))
            .await?;
        ensure!(
            answer.status.is_success(),
            "Envoy answered {} for {path}",
            answer.status
        );
        Ok(answer.text())
    }

    /// The whole configuration with endpoints.
    ///
    /// # Errors
    /// When Envoy does not answer with JSON.
    pub async fn config_dump(&self) -> Result<Value> {
        let text = self.get("/config_dump?include_eds").await?;
        serde_json::from_str(&text).context("understand Envoy's configuration")
    }

    /// The entries of one resource field of the configuration dump.
    async fn configs(&self, resource: &str) -> Result<Vec<Value>> {
        let text = self
            .get(&format!("/config_dump?resource={resource}"))
            .await?;
        let mut dump: Value =
            serde_json::from_str(&text).context("understand Envoy's configuration")?;
        // An Envoy without any such resource leaves the list out.
        Ok(match dump.get_mut("configs").map(Value::take) {
            Some(Value::Array(configs)) => configs,
            _ => Vec::new(),
        })
    }

    /// The virtual host `name` of the route configuration `route`, as Envoy shows it.
    ///
    /// # Errors
    /// When Envoy has none.
    pub async fn virtual_host(&self, route: &str, name: &str) -> Result<Value> {
        let configs = self.configs("dynamic_route_configs").await?;
        virtual_host(&configs, route, name)
            .cloned()
            .with_context(|| format!("no virtual host {name} in route {route}"))
    }

    /// The active cluster `name`, as Envoy shows it.
    ///
    /// # Errors
    /// When Envoy has none.
    pub async fn cluster(&self, name: &str) -> Result<Value> {
        let configs = self.configs("dynamic_active_clusters").await?;
        configs
            .iter()
            .filter_map(|config| config.get("cluster"))
            .find(|cluster| is_named(cluster, name))
            .cloned()
            .with_context(|| format!("no cluster {name}"))
    }

    /// The active listener `name`, as Envoy shows it.
    ///
    /// # Errors
    /// When Envoy has none.
    pub async fn listener(&self, name: &str) -> Result<Value> {
        let configs = self.configs("dynamic_listeners").await?;
        configs
            .iter()
            .find(|config| is_named(config, name))
            .and_then(|config| config.pointer("/active_state/listener"))
            .cloned()
            .with_context(|| format!("no active listener {name}"))
    }

    /// Counters and gauges whose name matches the regular expression `filter`.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn stats(&self, filter: &str) -> Result<BTreeMap<String, u64>> {
        let encoded: String = filter
            .bytes()
            .map(|byte| {
                if byte.is_ascii_alphanumeric() {
                    char::from(byte).to_string()
                } else {
                    format!("%{byte:02X}")
                }
            })
            .collect();
        let text = self.get(&format!("/stats?filter={encoded}")).await?;
        Ok(parse_stats(&text))
    }

    /// The sum of the counters whose name matches `filter`.
    ///
    /// # Errors
    /// When Envoy does not answer.
    pub async fn stat_sum(&self, filter: &str) -> Result<u64> {
        Ok(self.stats(filter).await?.values().sum())
    }

    /// Hosts of every cluster with their state, as JSON.
    ///
    /// # Errors
    /// When Envoy does not answer with JSON.
    pub async fn clusters(&self) -> Result<Value> {
        let text = self.get("/clusters?format=json").await?;
        serde_json::from_str(&text).context("understand Envoy's clusters")
    }

    /// The certificates in use, as JSON.
    ///
    /// # Errors
    /// When Envoy does not answer with JSON.
    pub async fn certificates(&self) -> Result<Value> {
        serde_json::from_str(&self.get("/certs").await?).context("understand Envoy's certificates")
    }
}

fn is_named(value: &Value, name: &str) -> bool {
    value.get("name").and_then(Value::as_str) == Some(name)
}

fn virtual_host<'v>(configs: &'v [Value], route: &str, name: &str) -> Option<&'v Value> {
    let config = configs
        .iter()
        .filter_map(|config| config.get("route_config"))
        .find(|config| is_named(config, route))?;
    let hosts = config.get("virtual_hosts")?.as_array()?;
    hosts.iter().find(|host| is_named(host, name))
}

fn parse_stats(text: &str) -> BTreeMap<String, u64> {
    text.lines()
        .filter_map(|line| {
            let (name, value) = line.rsplit_once(": ")?;
            Some((name.to_owned(), value.parse().ok()?))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    #[test]
    fn a_virtual_host_is_found_in_its_route_only() {
        let configs = [
            json!({"route_config": {"name": "80", "virtual_hosts": [{"name": "a:80", "x": 1}]}}),
            json!({"route_config": {"name": "9080", "virtual_hosts": [{"name": "b:9080"}]}}),
        ];
        assert_eq!(super::virtual_host(&configs, "80", "a:80").unwrap()["x"], 1);
        assert!(super::virtual_host(&configs, "9080", "a:80").is_none());
    }

    #[test]
    fn stats_are_name_and_number() {
        let stats = super::parse_stats("a.b: 3\ncluster.outbound|80||x: 1\nh: P0(1,2)\n");
        assert_eq!(stats.len(), 2);
        assert_eq!(stats["cluster.outbound|80||x"], 1);
    }
}
