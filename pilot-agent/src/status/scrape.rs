//! One scrape for three sources: the agent, Envoy and finally the application, since OpenMetrics
//! marks the end of the body.

use std::{convert::Infallible, pin::Pin, time::Duration};

use axum::http::{HeaderMap, Request, header};
use bytes::Bytes;
use futures::Stream;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use mesh_common::metrics::{Gauge, IntCounter, IntCounterVec, Registry};
use serde::Deserialize;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;

use super::{accept, rewrite::Rewriter};
use crate::{
    http_client::{connect_local, open},
    secret::{Secrets, WORKLOAD, metrics::Metrics},
};

const TIMEOUT_HEADER: &str = "x-prometheus-scrape-timeout-seconds";
const DEFAULT_TIMEOUT: Duration = Duration::from_secs(10);
/// Number of series from which on label values are probably wrong.
const MANY_SERIES: u64 = 20_000;
/// Size of the chunks of rewritten text.
const CHUNK: usize = 32 * 1024;
/// Maximum length of a line.
const MAX_LINE: usize = 64 * 1024;

/// The application's metrics.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Application {
    /// Port on localhost.
    pub port: u16,
    /// Path.
    pub path: String,
}

#[derive(Debug, Deserialize)]
struct Annotations {
    #[serde(default)]
    scrape: String,
    #[serde(default)]
    path: String,
    #[serde(default)]
    port: String,
}

impl Application {
    /// Parses `ISTIO_PROMETHEUS_ANNOTATIONS`; `None` if the application is not scraped.
    ///
    /// # Errors
    /// If the JSON is invalid, or the port is invalid or the status port, which would scrape itself
    /// endlessly.
    pub fn parse(json: Option<&str>, status_port: u16) -> Result<Option<Self>, String> {
        let Some(json) = json else { return Ok(None) };
        let fail = |problem: &dyn std::fmt::Display| {
            format!("invalid ISTIO_PROMETHEUS_ANNOTATIONS: {problem}")
        };
        let given: Annotations = serde_json::from_str(json).map_err(|error| fail(&error))?;
        if given.scrape == "false" {
            return Ok(None);
        }
        let port = if given.port.is_empty() {
            "80"
        } else {
            &given.port
        };
        let port = port
            .parse()
            .map_err(|_| fail(&format!("{port:?} is not a port")))?;
        if port == status_port {
            return Err(fail(&format!(
                "port {port} is the agent's status port itself"
            )));
        }
        let path = if given.path.is_empty() {
            "/metrics".to_owned()
        } else {
            given.path
        };
        Ok(Some(Self { port, path }))
    }
}

#[derive(Debug, Clone)]
struct Counters {
    scrapes: IntCounter,
    failures: IntCounterVec,
    series: Gauge,
}

/// The merged scrape.
#[derive(Debug)]
pub struct Scrape {
    registry: Registry,
    counters: Counters,
    metrics: Metrics,
    secrets: watch::Receiver<Secrets>,
    envoy: Option<u16>,
    application: Option<Application>,
}

/// The body, in chunks.
pub type Body = Pin<Box<dyn Stream<Item = Result<Bytes, Infallible>> + Send>>;

impl Scrape {
    /// `envoy` is the port of Envoy's metrics, if they are merged.
    #[must_use]
    pub fn new(
        registry: Registry,
        metrics: Metrics,
        secrets: watch::Receiver<Secrets>,
        envoy: Option<u16>,
        application: Option<Application>,
    ) -> Self {
        let counters = Counters {
            scrapes: registry.counter("istio_agent_scrapes_total", "Scrapes of the merged metrics"),
            failures: registry.counter_vec(
                "istio_agent_scrape_failures_total",
                "Sources missing from a scrape",
                &["type"],
            ),
            series: registry.gauge(
                "istio_agent_istio_series",
                "Series of istio_ metrics in the last scrape",
            ),
        };
        Self {
            registry,
            counters,
            metrics,
            secrets,
            envoy,
            application,
        }
    }

    /// Content-Type and body. A source that fails is left out and counted.
    pub async fn run(&self, query: Option<&str>, headers: &HeaderMap) -> (String, Body) {
        self.counters.scrapes.inc();
        let accept = headers
            .get(header::ACCEPT)
            .and_then(|value| value.to_str().ok());
        let limit = headers
            .get(TIMEOUT_HEADER)
            .and_then(|value| value.to_str().ok()?.parse().ok())
            .and_then(|seconds| Duration::try_from_secs_f64(seconds).ok())
            .unwrap_or(DEFAULT_TIMEOUT);
        let path = query.map_or_else(
            || "/stats/prometheus".to_owned(),
            |query| format!("/stats/prometheus?{query}"),
        );
        let envoy = async {
            let port = self.envoy?;
            self.part(
                "envoy",
                limit,
                start(port, &path, accept::for_envoy(accept), headers),
            )
            .await
        };
        let application = async {
            let of = self.application.as_ref()?;
            self.part(
                "application",
                limit,
                start(of.port, &of.path, accept::for_application(accept), headers),
            )
            .await
        };
        let (envoy, application) = tokio::join!(envoy, application);
        let kind = application
            .as_ref()
            .and_then(|response| response.headers().get(header::CONTENT_TYPE)?.to_str().ok());
        let content_type = accept::content_type(kind);
        self.tell_expiry();
        let (chunks, body) = mpsc::channel(4);
        let own = Bytes::from(self.registry.text());
        let counters = self.counters.clone();
        tokio::spawn(async move {
            let all = async {
                chunks.send(Ok(own)).await.ok()?;
                if let Some(response) = envoy
                    && !rewritten(response.into_body(), &chunks, &counters).await?
                {
                    counters.failures.with_label_values(&["envoy"]).inc();
                }
                if let Some(response) = application
                    && !copied(response.into_body(), &chunks).await?
                {
                    counters.failures.with_label_values(&["application"]).inc();
                }
                Some(())
            };
            if tokio::time::timeout(limit, all).await.is_err() {
                tracing::warn!(?limit, "scrape timed out, the response is truncated");
            }
        });
        (content_type, Box::pin(ReceiverStream::new(body)))
    }

    async fn part(
        &self,
        name: &str,
        limit: Duration,
        call: impl Future<Output = Result<axum::http::Response<Incoming>, String>>,
    ) -> Option<axum::http::Response<Incoming>> {
        let result = tokio::time::timeout(limit, call)
            .await
            .unwrap_or_else(|_| Err(format!("no response within {limit:?}")));
        match result {
            Ok(response) if response.status().is_success() => return Some(response),
            Ok(response) => {
                tracing::warn!(part = name, status = %response.status(), "metrics are missing")
            }
            Err(error) => tracing::warn!(part = name, error, "metrics are missing"),
        }
        self.counters.failures.with_label_values(&[name]).inc();
        None
    }

    fn tell_expiry(&self) {
        if let Some(workload) = &self.secrets.borrow().workload {
            let now = std::time::SystemTime::now();
            let left = match workload.not_after.duration_since(now) {
                Ok(left) => left.as_secs_f64(),
                Err(past) => -past.duration().as_secs_f64(),
            };
            self.metrics.expiry.with_label_values(&[WORKLOAD]).set(left);
        }
    }
}

async fn start(
    port: u16,
    path: &str,
    accept: String,
    headers: &HeaderMap,
) -> Result<axum::http::Response<Incoming>, String> {
    let path = if path.starts_with('/') {
        path.to_owned()
    } else {
        format!("/{path}")
    };
    let mut request = Request::get(path)
        .header(header::HOST, format!("localhost:{port}"))
        .header(header::ACCEPT, accept)
        .header(header::CONNECTION, "close")
        .body(Full::<Bytes>::default())
        .map_err(|error| error.to_string())?;
    for name in [header::USER_AGENT.as_str(), TIMEOUT_HEADER] {
        if let Some(value) = headers.get(name) {
            request.headers_mut().insert(
                axum::http::HeaderName::from_static(match name {
                    TIMEOUT_HEADER => TIMEOUT_HEADER,
                    _ => "user-agent",
                }),
                value.clone(),
            );
        }
    }
    let stream = connect_local(port)
        .await
        .map_err(|error| error.to_string())?;
    open(stream, request)
        .await
        .map_err(|error| error.to_string())
}

type Chunks = mpsc::Sender<Result<Bytes, Infallible>>;

/// `None` if the scraper closed the connection, `Some(false)` if the source failed.
async fn copied(mut body: Incoming, chunks: &Chunks) -> Option<bool> {
    while let Some(frame) = body.frame().await {
        match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => chunks.send(Ok(data)).await.ok()?,
            Ok(Err(_)) => {}
            Err(error) => {
                tracing::warn!(%error, "the application's metrics are truncated");
                return Some(false);
            }
        }
    }
    Some(true)
}

async fn rewritten(mut body: Incoming, chunks: &Chunks, counters: &Counters) -> Option<bool> {
    let mut rewriter = Rewriter::default();
    let mut rest: Vec<u8> = Vec::new();
    let mut out = String::with_capacity(CHUNK + MAX_LINE);
    let mut whole = true;
    while let Some(frame) = body.frame().await {
        let data = match frame.map(hyper::body::Frame::into_data) {
            Ok(Ok(data)) => data,
            Ok(Err(_)) => continue,
            Err(error) => {
                tracing::warn!(%error, "Envoy's metrics are truncated");
                whole = false;
                break;
            }
        };
        for line in data.split_inclusive(|byte| *byte == b'\n') {
            rest.extend_from_slice(line);
            if rest.last() == Some(&b'\n') {
                rest.pop();
                rewriter.line(&String::from_utf8_lossy(&rest), &mut out);
                rest.clear();
            } else if rest.len() > MAX_LINE {
                tracing::warn!(limit = MAX_LINE, "a line of Envoy's metrics is too long");
                return Some(false);
            }
            if out.len() >= CHUNK {
                chunks
                    .send(Ok(Bytes::from(std::mem::take(&mut out))))
                    .await
                    .ok()?;
            }
        }
    }
    if !rest.is_empty() && whole {
        rewriter.line(&String::from_utf8_lossy(&rest), &mut out);
    }
    rewriter.flush(&mut out);
    chunks.send(Ok(Bytes::from(out))).await.ok()?;
    tell_series(&rewriter, counters);
    Some(whole)
}

fn tell_series(rewriter: &Rewriter, counters: &Counters) {
    #[allow(clippy::cast_precision_loss, reason = "a count of lines")]
    counters.series.set(rewriter.series() as f64);
    static WARNED: std::sync::Once = std::sync::Once::new();
    if rewriter.series() > MANY_SERIES {
        WARNED.call_once(|| {
            tracing::warn!(
                series = rewriter.series(),
                "very many istio_ series: check the label values"
            )
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn scrape_annotations_are_checked() {
        let parse = |json: &str| Application::parse(Some(json), 15020);
        assert_eq!(
            parse("{\"scrape\":\"true\",\"path\":\"\",\"port\":\"9102\"}"),
            Ok(Some(Application {
                port: 9102,
                path: "/metrics".to_owned()
            }))
        );
        assert_eq!(
            parse("{}"),
            Ok(Some(Application {
                port: 80,
                path: "/metrics".to_owned()
            }))
        );
        assert_eq!(parse("{\"scrape\":\"false\"}"), Ok(None));
        assert!(
            parse("{\"port\":\"15020\"}")
                .unwrap_err()
                .contains("status port itself")
        );
        assert!(
            parse("{\"port\":\"http\"}")
                .unwrap_err()
                .contains("not a port")
        );
        assert_eq!(Application::parse(None, 15020), Ok(None));
    }
}
