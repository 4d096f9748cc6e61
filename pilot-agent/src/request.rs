//! The commands `request`, `wait` and `probe`.

use std::time::Duration;

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::StatusCode;
use tokio::time::Instant;

use crate::{
    args::{ProbeFlags, RequestFlags, WaitFlags},
    exit, http_client,
};

/// Ports that `request` may contact: Envoy admin, agent debug, agent status, Envoy health.
const PORTS: [u16; 4] = [15000, 15004, 15020, 15021];
const REQUEST_LIMIT: Duration = Duration::from_secs(60);
/// A configuration dump of a large mesh has several hundred MiB.
const MAX_BODY: usize = 1 << 30;

/// Sends the request and returns the body. Status 404 is not an error.
///
/// # Errors
/// If the port is not allowed, there is no response, or its status is above 399.
pub async fn request(flags: &RequestFlags) -> anyhow::Result<Bytes> {
    if !PORTS.contains(&flags.debug_port) {
        return Err(exit::usage(anyhow::anyhow!(
            "invalid --debug-port {}: want one of {PORTS:?}",
            flags.debug_port
        )));
    }
    let body = Bytes::from(flags.body.clone().unwrap_or_default());
    let method = flags.method.to_ascii_uppercase();
    let answer = http_client::local(
        flags.debug_port,
        &method,
        &flags.path,
        body,
        REQUEST_LIMIT,
        MAX_BODY,
    )
    .await
    .with_context(|| {
        format!(
            "{method} localhost:{}/{}",
            flags.debug_port,
            flags.path.trim_start_matches('/')
        )
    })?;
    if answer.status.as_u16() > 399 && answer.status != StatusCode::NOT_FOUND {
        bail!(
            "status {}: {}",
            answer.status,
            String::from_utf8_lossy(&answer.body).trim()
        );
    }
    Ok(answer.body)
}

/// Repeats the request until the response has status 200.
///
/// # Errors
/// If that does not happen in time; the message holds the last failure.
pub async fn wait(flags: &WaitFlags) -> anyhow::Result<()> {
    let limit = Duration::from_secs(flags.timeout_seconds);
    let deadline = Instant::now() + limit;
    loop {
        tokio::time::sleep(Duration::from_millis(flags.period_millis)).await;
        let Err(problem) = ask(&flags.url, flags.request_timeout_millis).await else {
            return Ok(());
        };
        if Instant::now() >= deadline {
            bail!("{} is not ready after {limit:?}: {problem}", flags.url);
        }
    }
}

/// Sends one request.
///
/// # Errors
/// If the response does not have status 200.
pub async fn probe(flags: &ProbeFlags) -> anyhow::Result<()> {
    ask(&flags.url, flags.request_timeout_millis)
        .await
        .map_err(|problem| anyhow::anyhow!("{}: {problem}", flags.url))
}

async fn ask(url: &str, limit_millis: u64) -> Result<(), String> {
    let answer = http_client::get(url, Duration::from_millis(limit_millis))
        .await
        .map_err(|error| error.to_string())?;
    if answer.status == StatusCode::OK {
        return Ok(());
    }
    Err(format!(
        "status {}: {}",
        answer.status,
        String::from_utf8_lossy(&answer.body).trim()
    ))
}
