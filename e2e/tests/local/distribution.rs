//! Galley says of each object by how many real proxies it is held, as pilot reports it.

use anyhow::{Context as _, Result, ensure};
use mesh::wait::wait_until;
use serde_json::Value;

use crate::fixture::{LIMIT, Whole};

/// The object on galley's page: its condition `Distributed`, and the numbers of this moment.
async fn shown(whole: &Whole, name: &str) -> Result<(Value, Value)> {
    let galley = "istio-system/istio-galley";
    let http = whole.mesh().http_from_without_reuse(galley);
    let url = format!("http://127.0.0.1:15014/debug/status?kind=VirtualService&name={name}");
    let page = http.get(&url).await?.json()?;
    let object = page.pointer("/objects/0").context("no such object")?;
    let conditions = object.pointer("/status/conditions");
    let conditions = conditions.and_then(Value::as_array).into_iter().flatten();
    let mut conditions = conditions.filter(|one| one["type"] == "Distributed");
    let condition = conditions.next().context("nothing is said of proxies")?;
    Ok((condition.clone(), object["proxies"].clone()))
}

/// Waits until as many proxies as there are hold the object.
async fn held_by_all(whole: &Whole, name: &str, proxies: u64) -> Result<()> {
    wait_until("all proxies hold it", LIMIT, || async {
        let (condition, numbers) = shown(whole, name).await?;
        let all = format!("held by {proxies} of {proxies} proxies");
        ensure!(
            condition.get("status") == Some(&"True".into())
                && condition.get("message") == Some(&all.into()),
            "{condition}"
        );
        ensure!(
            numbers.get("held") == Some(&proxies.into())
                && numbers.get("reached") == Some(&proxies.into()),
            "{numbers}"
        );
        Ok(())
    })
    .await
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_says_by_how_many_envoys_it_is_held() -> Result<()> {
    let whole = Whole::start().await?;
    whole.all_proxies_connected().await?;
    let (_, numbers) = wait_until("galley is told", LIMIT, || shown(&whole, "reviews")).await?;
    let reached = numbers["reached"].as_u64().context("no numbers")?;
    ensure!(reached > 1, "{numbers}");
    held_by_all(&whole, "reviews", reached).await?;
    // A change is held by all of them again.
    whole
        .apply("tasks/traffic-shifting/virtual-service-reviews-v3.yaml")
        .await?;
    whole.reviews_go_to("default/sleep", "v3").await?;
    held_by_all(&whole, "reviews", reached).await
}
