//! HTTP to the node, over its Unix socket.

use std::os::fd::AsRawFd as _;

use anyhow::{Context as _, Result, bail};
use bytes::Bytes;
use http::{Method, Request, StatusCode, header};
use http_body_util::{BodyExt as _, Full};
use hyper_util::rt::TokioIo;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use crate::layout::Layout;
use crate::node::api::DIAL_PROTOCOL;
use crate::stream::Stream;

/// Percent-encodes a query value.
pub(super) fn encode(value: &str) -> String {
    value
        .bytes()
        .map(|byte| match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'_' | b'.' | b'~' | b'/' | b':' => {
                char::from(byte).to_string()
            }
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

/// A query; pairs without a value are left out.
pub(super) fn query(pairs: &[(&str, Option<&str>)]) -> String {
    let pairs: Vec<String> = pairs
        .iter()
        .filter_map(|(name, value)| Some(format!("{name}={}", encode((*value)?))))
        .collect();
    pairs.join("&")
}

async fn connect(layout: &Layout) -> Result<UnixStream> {
    // A Unix socket's path has at most 107 bytes: go through the open directory.
    let directory = std::fs::File::open(layout.root()).context("open the state directory")?;
    let path = format!("/proc/self/fd/{}/control.sock", directory.as_raw_fd());
    UnixStream::connect(path)
        .await
        .context("connect to the node: is the mesh still up?")
}

/// Calls the node and reads its answer.
pub(super) async fn call<T: DeserializeOwned>(
    layout: &Layout,
    method: Method,
    path: &str,
    body: Bytes,
) -> Result<T> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connect(layout).await?))
            .await
            .context("talk to the node")?;
    let driver = tokio::spawn(connection);
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::HOST, "node")
        .header(header::CONTENT_TYPE, "application/json")
        .body(Full::new(body))
        .context("make the request")?;
    let answer = async {
        let answer = sender.send_request(request).await?;
        let status = answer.status();
        anyhow::Ok((status, answer.into_body().collect().await?.to_bytes()))
    }
    .await;
    driver.abort();
    let (status, body) = answer.context("ask the node: is the mesh still up?")?;
    understand(status, &body)
}

/// A TCP connection made inside a Pod; `to` is `HOST:PORT`.
pub(super) async fn dial(layout: &Layout, pod: &str, to: &str) -> Result<Stream> {
    let (mut sender, connection) =
        hyper::client::conn::http1::handshake(TokioIo::new(connect(layout).await?))
            .await
            .context("talk to the node")?;
    tokio::spawn(connection.with_upgrades());
    let request = Request::post(format!("/dial?pod={}&to={}", encode(pod), encode(to)))
        .header(header::HOST, "node")
        .header(header::CONNECTION, "upgrade")
        .header(header::UPGRADE, DIAL_PROTOCOL)
        .body(Full::<Bytes>::default())
        .context("make the request")?;
    let answer = sender
        .send_request(request)
        .await
        .context("ask the node: is the mesh still up?")?;
    if answer.status() != StatusCode::SWITCHING_PROTOCOLS {
        let status = answer.status();
        let body = answer
            .into_body()
            .collect()
            .await
            .context("read the answer")?
            .to_bytes();
        understand::<serde::de::IgnoredAny>(status, &body)?;
        bail!("the node answered {status} to a dial");
    }
    let upgraded = hyper::upgrade::on(answer)
        .await
        .context("take over the connection")?;
    Ok(Stream::Pod(TokioIo::new(upgraded)))
}

fn understand<T: DeserializeOwned>(status: StatusCode, body: &[u8]) -> Result<T> {
    if status.is_success() {
        return serde_json::from_slice(body).context("understand the node's answer");
    }
    let message = serde_json::from_slice::<serde_json::Value>(body)
        .ok()
        .and_then(|value| Some(value.get("error")?.as_str()?.to_owned()));
    match message {
        Some(message) => bail!(message),
        None => bail!(
            "the node answered {status}: {}",
            String::from_utf8_lossy(body).trim()
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn query_values_are_encoded() {
        assert_eq!(
            query(&[("a", Some("x y&z")), ("b", None), ("c", Some("d/e"))]),
            "a=x%20y%26z&c=d/e"
        );
    }
}
