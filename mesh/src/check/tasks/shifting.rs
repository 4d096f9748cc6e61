//! Shares of requests and of connections.

use std::future::Future;

use anyhow::{Context as _, Result};
use tokio::io::{AsyncBufReadExt as _, AsyncWriteExt as _, BufReader};

use super::routing::{REVIEWS, book_shop_v1};
use crate::check::stage::{CLIENT, Seen, Stage};

/// Requests of a sample.
const REQUESTS: u64 = 1_000;
/// Connections of a sample at the gateway.
const CONNECTIONS: u64 = 300;

/// Whether `hits` of `total` agree with `share`: within three standard deviations.
fn within(share: f64, hits: u64, total: u64) -> bool {
    #[expect(clippy::cast_precision_loss, reason = "sample sizes are small")]
    let (hits, total) = (hits as f64, total as f64);
    let deviation = (total * share * (1.0 - share)).sqrt();
    (hits - total * share).abs() <= 3.0 * deviation
}

/// One sample in 370 of a right split lies outside of three standard deviations. A second sample
/// must then lie within; of a wrong split it would not either.
async fn sampled<F>(share: f64, total: u64, mut sample: impl FnMut() -> F) -> Result<Seen>
where
    F: Future<Output = Result<u64>>,
{
    let first = sample().await?;
    if within(share, first, total) {
        return Ok((true, format!("{first} of {total}")));
    }
    let second = sample().await?;
    Ok((
        within(share, second, total),
        format!("{first}, then {second} of {total}"),
    ))
}

pub(super) async fn traffic_shifting(stage: &mut Stage<'_>) -> Result<()> {
    book_shop_v1(stage).await?;
    for (file, weight, version, share) in [
        ("90-10", "\"weight\":10", "v2", 0.1),
        ("50-v3", "\"weight\":50", "v3", 0.5),
    ] {
        stage
            .apply(&format!(
                "tasks/traffic-shifting/virtual-service-reviews-{file}.yaml"
            ))
            .await?;
        stage
            .until_routed(CLIENT, "9080", REVIEWS, |host| host.contains(weight))
            .await?;
        let seen = sampled(share, REQUESTS, || async {
            let total = REQUESTS.to_string();
            let url = "http://reviews:9080/reviews/0";
            let args = [
                "-n",
                &total,
                "-t",
                "60s",
                "-c",
                "4",
                "--count",
                "json:podname",
                url,
            ];
            let summary = stage.load(CLIENT, &args).await?;
            anyhow::ensure!(
                summary.with_status(200) == REQUESTS,
                "not all of {total} requests were answered: {summary:?}"
            );
            Ok(summary.counted(&format!("reviews-{version}-")))
        })
        .await;
        stage.row(
            format!("{:.0} % to {version}", share * 100.0),
            format!("{:.0} of {REQUESTS} ± 3σ", share * 1_000.0),
            seen,
        );
    }
    stage
        .apply("tasks/traffic-shifting/virtual-service-reviews-v3.yaml")
        .await?;
    stage
        .until_routed(CLIENT, "9080", REVIEWS, |host| {
            !host.contains("weighted_clusters")
        })
        .await?;
    let args = [
        "-n",
        "100",
        "--count",
        "json:podname",
        "http://reviews:9080/reviews/0",
    ];
    let seen = stage.load(CLIENT, &args).await.map(|summary| {
        let hits = summary.counted("reviews-v3-");
        (hits == 100, format!("{hits} of 100"))
    });
    stage.row("all to v3", "100 of 100", seen);
    Ok(())
}

/// Opens `count` connections to the gateway's port; how many were answered by `word`.
async fn at_gateway(address: &str, count: u64, word: &str) -> Result<u64> {
    let mut hits = 0;
    for _ in 0..count {
        let stream = tokio::net::TcpStream::connect(address)
            .await
            .with_context(|| format!("connect to {address}"))?;
        let mut stream = BufReader::new(stream);
        stream.write_all(b"hello\n").await?;
        let mut line = String::new();
        stream.read_line(&mut line).await?;
        anyhow::ensure!(line.ends_with(" hello\n"), "the answer is {line:?}");
        hits += u64::from(line.starts_with(word));
    }
    Ok(hits)
}

pub(super) async fn tcp_traffic_shifting(stage: &mut Stage<'_>) -> Result<()> {
    for file in [
        "destination-rule-tcp-echo",
        "gateway-tcp-echo",
        "virtual-service-tcp-echo-all-v1",
    ] {
        stage
            .apply(&format!("tasks/tcp-traffic-shifting/{file}.yaml"))
            .await?;
    }
    let gateway = "istio-ingress/istio-ingressgateway";
    let url = stage.mesh.published_url(gateway, 31400).await?;
    let address = url.trim_start_matches("http://").to_owned();
    let v1 = "outbound|9000|v1|tcp-echo.default.svc.cluster.local";
    stage
        .until_listener(gateway, "0.0.0.0_31400", |listener| listener.contains(v1))
        .await?;
    let seen = at_gateway(&address, 20, "one").await;
    let seen = seen.map(|hits| (hits == 20, format!("{hits} of 20")));
    stage.row("all to v1, at the gateway", "20 of 20 connections", seen);

    stage
        .apply("tasks/tcp-traffic-shifting/virtual-service-tcp-echo-20-v2.yaml")
        .await?;
    stage
        .until_listener(gateway, "0.0.0.0_31400", |listener| {
            listener.contains("weighted_clusters")
        })
        .await?;
    let client_listener = client_listener(stage).await?;
    stage
        .until_listener(CLIENT, &client_listener, |listener| {
            listener.contains("weighted_clusters")
        })
        .await?;
    let seen = sampled(0.2, REQUESTS, || async {
        let total = REQUESTS.to_string();
        let args = [
            "--tcp", "-n", &total, "-t", "60s", "-c", "4", "--data", "hello", "--count", "body",
        ];
        let args = [&args[..], &["tcp://tcp-echo:9000"]].concat();
        let summary = stage.load(CLIENT, &args).await?;
        anyhow::ensure!(
            summary.failed == 0 && summary.requests == REQUESTS,
            "not all of {total} connections were answered: {summary:?}"
        );
        Ok(summary.counted("two"))
    })
    .await;
    stage.row(
        "20 % to v2, in the mesh",
        "200 of 1000 connections ± 3σ",
        seen,
    );
    let seen = sampled(0.2, CONNECTIONS, || {
        at_gateway(&address, CONNECTIONS, "two")
    })
    .await;
    stage.row(
        "20 % to v2, at the gateway",
        "60 of 300 connections ± 3σ",
        seen,
    );
    Ok(())
}

/// The listener of tcp-echo's port in the client's proxy: it bears the ClusterIP.
async fn client_listener(stage: &Stage<'_>) -> Result<String> {
    let text = stage
        .mesh
        .envoy(CLIENT)
        .get("/listeners?format=text")
        .await?;
    text.lines()
        .filter_map(|line| line.split("::").next())
        .find(|name| name.ends_with("_9000"))
        .map(str::to_owned)
        .context("the client has no listener for port 9000")
}

#[cfg(test)]
mod tests {
    use super::within;

    #[test]
    fn three_standard_deviations() {
        // σ = 9.49
        assert!(within(0.1, 128, 1_000) && within(0.1, 72, 1_000));
        assert!(!within(0.1, 129, 1_000) && !within(0.1, 71, 1_000));
        assert!(!within(0.5, 100, 1_000));
    }
}
