//! Mutual TLS between Pods.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};

use crate::check::stage::{CLIENT, Seen, Stage};
use crate::http::Http;

/// A Pod without a sidecar.
const OUTSIDER: &str = "legacy/sleep";
/// Envoy's count of connections to the server.
const CONNECTIONS: &str =
    r"^cluster\.outbound\|8000\|\|httpbin\.default\.svc\.cluster\.local;?\.upstream_cx_total$";
const URL: &str = "http://httpbin.default:8000/headers";
/// Whom the server must see.
const IDENTITY: &str = "URI=spiffe://cluster.local/ns/default/sa/sleep";
/// How long a policy may take to be in force.
const LIMIT: Duration = Duration::from_secs(10);

/// Whether the request is answered, and what identity of the caller the server saw.
async fn identity(http: &Http) -> Result<Option<String>> {
    let answer = http.get(URL).await?;
    ensure!(answer.status == 200, "status {}", answer.status.as_u16());
    let body = answer.json()?;
    let header = body.pointer("/headers/X-Forwarded-Client-Cert");
    Ok(header.and_then(|value| value.as_str()).map(str::to_owned))
}

async fn seen_as(http: &Http, wanted: bool) -> Result<Seen> {
    let seen = identity(http).await?;
    let right = match &seen {
        Some(text) => wanted && text.contains(IDENTITY),
        None => !wanted,
    };
    let by = seen
        .as_deref()
        .unwrap_or("none")
        .rsplit(';')
        .next()
        .unwrap_or_default();
    Ok((right, format!("200, identity {by}")))
}

/// Connections that the client's proxy has made so far, after a few requests over one. A request
/// that finds it closed or closing costs another.
async fn connections(stage: &Stage<'_>, http: &Http) -> Result<u64> {
    for _ in 0..5 {
        ensure!(identity(http).await?.is_some(), "no mutual TLS");
    }
    let stats = stage.mesh.envoy(CLIENT).stats(CONNECTIONS).await?;
    let made = stats.values().next();
    made.copied().context("no statistics of connections")
}

async fn refused(http: &Http) -> Result<Seen> {
    Ok(match http.get(URL).await {
        Ok(answer) => (false, format!("answered {}", answer.status.as_u16())),
        Err(error) => (true, format!("{}", error.root_cause())),
    })
}

pub(super) async fn mutual_tls(stage: &mut Stage<'_>) -> Result<()> {
    stage.apply("manifests/sleep/legacy.yaml").await?;
    stage.settle().await?;
    let (inside, outside) = (stage.http(CLIENT), stage.http(OUTSIDER));

    stage
        .apply("tasks/mutual-tls/peer-authentication-strict.yaml")
        .await?;
    let seen = stage.until(LIMIT, || refused(&outside)).await;
    stage.row(
        "STRICT, plain text from outside the mesh",
        "connection refused by the proxy",
        seen,
    );
    let seen = stage.until(LIMIT, || seen_as(&inside, true)).await;
    stage.row(
        "STRICT, from a sidecar",
        "200, the server sees the caller's SPIFFE identity",
        seen,
    );
    let before = connections(stage, &inside).await?;

    stage
        .apply("tasks/mutual-tls/peer-authentication-permissive.yaml")
        .await?;
    let seen = stage.until(LIMIT, || seen_as(&outside, false)).await;
    stage.row(
        "PERMISSIVE, plain text from outside the mesh",
        "200, no identity",
        seen,
    );
    let seen = stage.until(LIMIT, || seen_as(&inside, true)).await;
    stage.row("PERMISSIVE, from a sidecar", "200, still mutual TLS", seen);

    stage
        .apply("tasks/mutual-tls/peer-authentication-strict.yaml")
        .await?;
    let seen = stage.until(LIMIT, || refused(&outside)).await;
    stage.row("STRICT again", "connection refused by the proxy", seen);
    let after = connections(stage, &inside).await?;
    stage.row(
        "STRICT to PERMISSIVE and back, connections of the mesh",
        "stay: none is made",
        Ok((after == before, format!("{before} before, {after} after"))),
    );
    stage
        .apply("tasks/mutual-tls/peer-authentication-httpbin-port-disable.yaml")
        .await?;
    let seen = stage.until(LIMIT, || seen_as(&outside, false)).await;
    stage.row(
        "port 8080 DISABLE, plain text from outside",
        "200, no identity",
        seen,
    );
    let seen = stage.until(LIMIT, || seen_as(&inside, false)).await;
    stage.row(
        "port 8080 DISABLE, from a sidecar",
        "200, no mutual TLS",
        seen,
    );
    Ok(())
}
