//! Certificates that run out every few seconds, under load.

use std::collections::BTreeSet;

use anyhow::{Context as _, Result};
use serde_json::Value;

use crate::check::stage::{Stage, Summary};

const CLIENT: &str = "default/short-lived-client";
const SERVER: &str = "default/short-lived";
const URL: &str = "http://short-lived:8000/get";

/// Serial number of the workload certificate in use.
async fn serial(stage: &Stage<'_>, pod: &str) -> Result<String> {
    let certificates = stage.mesh.envoy(pod).certificates().await?;
    let all = certificates
        .pointer("/certificates")
        .and_then(Value::as_array);
    all.into_iter()
        .flatten()
        .filter_map(|entry| entry.pointer("/cert_chain/0/serial_number")?.as_str())
        .next()
        .map(str::to_owned)
        .with_context(|| format!("the proxy of {pod} holds no certificate"))
}

/// All serial numbers that were in use at both ends while `load` ran.
async fn watched<F>(stage: &Stage<'_>, load: F) -> Result<(Summary, [usize; 2])>
where
    F: Future<Output = Result<Summary>>,
{
    let mut load = std::pin::pin!(load);
    let mut serials = [BTreeSet::new(), BTreeSet::new()];
    loop {
        for (pod, seen) in [CLIENT, SERVER].into_iter().zip(&mut serials) {
            seen.insert(serial(stage, pod).await?);
        }
        tokio::select! {
            summary = &mut load => return Ok((summary?, serials.map(|seen| seen.len()))),
            () = tokio::time::sleep(std::time::Duration::from_millis(200)) => {}
        }
    }
}

pub(super) async fn certificate_rotation(stage: &mut Stage<'_>) -> Result<()> {
    stage
        .apply("tasks/certificate-rotation/short-lived.yaml")
        .await?;
    stage.settle().await?;
    let cluster = "outbound|8000||short-lived.default.svc.cluster.local";
    stage
        .until_cluster(CLIENT, cluster, |text| {
            text.contains("max_requests_per_connection")
        })
        .await?;
    let handshakes = || async {
        let envoy = stage.mesh.envoy(SERVER);
        envoy.stat_sum(r"^listener.*ssl\.handshake$").await
    };
    let before = handshakes().await?;
    let args = ["-r", "100", "-t", "20s", "-c", "4", URL];
    let (summary, [client, server]) = watched(stage, stage.load(CLIENT, &args)).await?;
    let counted = handshakes().await? - before;
    stage.row(
        "certificates used at client and server",
        "3 or more at each",
        Ok((client >= 3 && server >= 3, format!("{client} and {server}"))),
    );
    stage.row(
        "handshakes meanwhile",
        "50 or more",
        Ok((counted >= 50, counted.to_string())),
    );
    let good = summary.with_status(200);
    stage.row(
        "100 requests/s for 20 s",
        "none failed",
        Ok((
            summary.requests >= 1_900 && good == summary.requests,
            format!("{} of {} failed", summary.requests - good, summary.requests),
        )),
    );
    Ok(())
}
