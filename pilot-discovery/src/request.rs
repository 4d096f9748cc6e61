//! `pilot-discovery request`: sends a request to a running server and prints the response.

use std::time::Duration;

use anyhow::Context as _;
use http_body_util::{BodyExt as _, Full};
use hyper_util::{client::legacy::Client, rt::TokioExecutor};

use crate::args::RequestArgs;

const TIMEOUT: Duration = Duration::from_secs(60);
/// Maximum size of the response, in bytes.
const MAX_BYTES: usize = 256 << 20;

/// Sends the request to the monitoring port of this machine and returns the response body.
///
/// # Errors
/// If there is no response, or its status is above 399, other than 404.
pub async fn run(args: &RequestArgs) -> anyhow::Result<String> {
    let uri = format!(
        "http://127.0.0.1:15014/{}",
        args.path.trim_start_matches('/')
    );
    let request = http::Request::builder()
        .method(args.method.to_ascii_uppercase().as_str())
        .uri(&uri)
        .body(Full::new(bytes::Bytes::from(args.body.clone())))
        .context("request")?;
    let client = Client::builder(TokioExecutor::new()).build_http();
    let response = tokio::time::timeout(TIMEOUT, client.request(request))
        .await
        .with_context(|| format!("{uri}: no answer within 60 s"))?
        .with_context(|| format!("requesting {uri}"))?;
    let status = response.status();
    let body = http_body_util::Limited::new(response.into_body(), MAX_BYTES)
        .collect()
        .await
        .map_err(|error| anyhow::anyhow!("reading the response of {uri}: {error}"))?;
    let text = String::from_utf8_lossy(&body.to_bytes()).into_owned();
    anyhow::ensure!(
        status.as_u16() <= 399 || status == http::StatusCode::NOT_FOUND,
        "received unsuccessful status code {}: {text}",
        status.as_u16()
    );
    Ok(text)
}
