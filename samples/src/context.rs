//! Calls from one application to the next: headers that belong to the request as a whole go along, so
//! that traces stay connected and routes by user work behind the first hop too.

use anyhow::{Context as _, bail};
use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use std::time::Duration;

/// Largest answer that is read from another application, in bytes.
const MAX_ANSWER: usize = 1 << 20;

/// Headers copied from the incoming to every outgoing request.
const FORWARDED: [&str; 20] = [
    "x-request-id",
    "x-b3-traceid",
    "x-b3-spanid",
    "x-b3-parentspanid",
    "x-b3-sampled",
    "x-b3-flags",
    "b3",
    "traceparent",
    "tracestate",
    "x-ot-span-context",
    "x-datadog-trace-id",
    "x-datadog-parent-id",
    "x-datadog-sampling-priority",
    "x-cloud-trace-context",
    "grpc-trace-bin",
    "user-agent",
    "cookie",
    "authorization",
    "jwt",
    "end-user",
];

/// The part of `incoming` that goes along with calls made on its behalf.
pub fn forwarded(incoming: &HeaderMap) -> HeaderMap {
    let mut headers = HeaderMap::new();
    for name in FORWARDED {
        for value in incoming.get_all(name) {
            headers.append(name, value.clone());
        }
    }
    headers
}

/// Calls another application over plain HTTP/1.1 with kept connections.
#[derive(Clone, Debug)]
pub struct Caller {
    client: Client<HttpConnector, Full<Bytes>>,
}

impl Default for Caller {
    fn default() -> Self {
        let mut connector = HttpConnector::new();
        connector.set_nodelay(true);
        Self {
            client: Client::builder(TokioExecutor::new()).build(connector),
        }
    }
}

impl Caller {
    /// GET of `url`; status and body of the answer, whatever the status is.
    ///
    /// # Errors
    /// No whole answer within `timeout`, or one above 1 MiB.
    pub async fn get(
        &self,
        url: &str,
        headers: HeaderMap,
        timeout: Duration,
    ) -> anyhow::Result<(StatusCode, Bytes)> {
        let mut request = Request::builder()
            .method(Method::GET)
            .uri(url)
            .body(Full::default())
            .with_context(|| format!("{url} is not an address"))?;
        *request.headers_mut() = headers;
        let exchange = async {
            let response = self.client.request(request).await.context("no answer")?;
            let status = response.status();
            match Limited::new(response.into_body(), MAX_ANSWER)
                .collect()
                .await
            {
                Ok(body) => Ok((status, body.to_bytes())),
                Err(error) => bail!("answer broke off: {error}"),
            }
        };
        match tokio::time::timeout(timeout, exchange).await {
            Ok(result) => result.with_context(|| format!("GET {url}")),
            Err(_) => bail!("GET {url}: no answer within {timeout:?}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn forwards_trace_and_user_headers_only() {
        let mut incoming = HeaderMap::new();
        incoming.insert("end-user", "jason".parse().unwrap());
        incoming.insert("x-b3-traceid", "1".parse().unwrap());
        incoming.insert("host", "elsewhere".parse().unwrap());
        incoming.insert("x-secret", "s".parse().unwrap());
        let out = forwarded(&incoming);
        assert_eq!(out.len(), 2);
        assert_eq!(out["end-user"], "jason");
    }
}
