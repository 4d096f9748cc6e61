//! What replicas say of themselves in their metrics.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, ensure};
use mesh::http::Http;

use crate::fixture::{Machine, runtime};

/// The sum of the samples whose line begins with `prefix`, by Pod. Each replica is asked itself: a
/// Service would lead to any of them.
///
/// # Errors
/// When one has no address yet, or does not answer.
pub(crate) fn scrape(
    machine: &Machine,
    component: &str,
    prefix: &str,
) -> Result<BTreeMap<String, u64>> {
    let runtime = runtime()?;
    let mut found = BTreeMap::new();
    for pod in machine.pods(&format!("istio={component}"))? {
        let name = pod["metadata"]["name"].as_str().unwrap_or_default();
        let address = pod["status"]["podIP"]
            .as_str()
            .with_context(|| format!("{name} has no address yet"))?;
        let url = format!("http://{address}:15014/metrics");
        let answer = runtime
            .block_on(Http::from_host(false).get(&url))
            .with_context(|| name.to_owned())?;
        ensure!(answer.status == 200, "{name}: {}", answer.status);
        found.insert(name.to_owned(), sum(&answer.text(), prefix));
    }
    Ok(found)
}

fn sum(text: &str, prefix: &str) -> u64 {
    let samples = text
        .lines()
        .filter(|line| line.starts_with(prefix))
        .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok());
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "counters are whole numbers from zero on"
    )]
    let sum = samples.sum::<f64>() as u64;
    sum
}
