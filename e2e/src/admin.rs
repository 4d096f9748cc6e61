//! The admin interface of an Envoy in a Pod.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

use crate::http::Http;

/// Admin interface of one Envoy.
#[derive(Clone, Debug)]
pub struct Envoy {
    http: Http,
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
    #[test]
    fn stats_are_name_and_number() {
        let stats = super::parse_stats("a.b: 3\ncluster.outbound|80||x: 1\nh: P0(1,2)\n");
        assert_eq!(stats.len(), 2);
        assert_eq!(stats["cluster.outbound|80||x"], 1);
    }
}
