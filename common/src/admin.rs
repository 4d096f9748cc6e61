//! The monitoring port: `/metrics`, `/ready`, `/healthz`, `/version`, `/logging`.

use std::net::SocketAddr;

use axum::Router;
use axum::extract::{ConnectInfo, Query, Request, State};
use axum::http::{HeaderMap, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use tokio::net::TcpListener;

use crate::metrics::Registry;
use crate::readiness::Readiness;
use crate::{drain, log, version};

/// Content type of the Prometheus text format.
const METRICS_TYPE: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the monitoring port serves.
#[derive(Debug)]
pub struct Admin {
    shared: Shared,
    extra: Router,
}

#[derive(Clone, Debug)]
struct Shared {
    registry: Registry,
    readiness: Readiness,
}

#[derive(Debug, serde::Deserialize)]
struct Level {
    level: String,
}

impl Admin {
    /// With the standard pages.
    #[must_use]
    pub fn new(registry: Registry, readiness: Readiness) -> Self {
        Self {
            shared: Shared {
                registry,
                readiness,
            },
            extra: Router::new(),
        }
    }

    /// Adds pages of the process. Wrap debug pages in [`loopback_only`].
    #[must_use]
    pub fn merge(mut self, pages: Router) -> Self {
        self.extra = self.extra.merge(pages);
        self
    }

    /// All pages as a router, for tests and for processes that serve them on a second port.
    /// [`loopback_only`] pages refuse everybody unless it is served with connect information.
    pub fn router(self) -> Router {
        let logging = loopback_only(
            Router::new().route("/logging", get(levels).put(set_levels).post(set_levels)),
        );
        Router::new()
            .route("/metrics", get(metrics))
            .route("/ready", get(ready))
            .route("/healthz", get(|| async { "ok\n" }))
            .with_state(self.shared)
            .route("/version", get(version_page))
            .merge(logging)
            .merge(self.extra)
    }

    /// Serves until the drain begins. Idle connections are closed then.
    ///
    /// # Errors
    /// If the listener fails.
    pub async fn serve(self, listener: TcpListener, drain: drain::Watch) -> std::io::Result<()> {
        let service = self
            .router()
            .into_make_service_with_connect_info::<SocketAddr>();
        axum::serve(listener, service)
            .with_graceful_shutdown(drain.signaled())
            .await
    }
}

/// Answers 403 to everybody who is not on this host.
pub fn loopback_only(pages: Router) -> Router {
    pages.layer(middleware::from_fn(check_loopback))
}

async fn check_loopback(request: Request, next: Next) -> Response {
    let local = request
        .extensions()
        .get::<ConnectInfo<SocketAddr>>()
        .is_some_and(|ConnectInfo(peer)| peer.ip().to_canonical().is_loopback());
    if local {
        next.run(request).await
    } else {
        (
            StatusCode::FORBIDDEN,
            "this page is served to loopback clients only\n",
        )
            .into_response()
    }
}

async fn metrics(State(shared): State<Shared>) -> Response {
    (
        [(header::CONTENT_TYPE, METRICS_TYPE)],
        shared.registry.text(),
    )
        .into_response()
}

async fn ready(State(shared): State<Shared>) -> Response {
    let missing = shared.readiness.missing();
    if missing.is_empty() {
        return "ready\n".into_response();
    }
    let reasons: String = missing
        .iter()
        .map(|name| format!("waiting for {name}\n"))
        .collect();
    (StatusCode::SERVICE_UNAVAILABLE, reasons).into_response()
}

async fn version_page(headers: HeaderMap) -> Response {
    let wants_json = headers
        .get(header::ACCEPT)
        .and_then(|value| value.to_str().ok())
        .is_some_and(|value| value.contains("application/json"));
    if wants_json {
        axum::Json(version::json()).into_response()
    } else {
        version::text().into_response()
    }
}

async fn levels() -> Response {
    match log::handle() {
        Some(handle) => format!("{}\n", handle.levels()).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, "logging is not set up\n").into_response(),
    }
}

async fn set_levels(Query(Level { level }): Query<Level>) -> Response {
    let Some(handle) = log::handle() else {
        return levels().await;
    };
    match handle.set_levels(&level) {
        Ok(()) => levels().await,
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn fetch(router: &Router, request: Request) -> (StatusCode, String) {
        let response = router.clone().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, String::from_utf8(body.to_vec()).unwrap())
    }

    fn get_page(path: &str) -> Request {
        Request::get(path).body(Body::empty()).unwrap()
    }

    fn from_peer(mut request: Request, peer: &str) -> Request {
        let peer: SocketAddr = peer.parse().unwrap();
        request.extensions_mut().insert(ConnectInfo(peer));
        request
    }

    #[tokio::test]
    async fn pages_of_every_process() {
        let readiness = Readiness::new();
        let gate = readiness.gate("bundle");
        let router = Admin::new(Registry::new("test"), readiness).router();

        let (status, body) = fetch(&router, get_page("/ready")).await;
        assert_eq!(
            (status, body.as_str()),
            (StatusCode::SERVICE_UNAVAILABLE, "waiting for bundle\n")
        );
        gate.open();
        assert_eq!(fetch(&router, get_page("/ready")).await.0, StatusCode::OK);
        assert_eq!(fetch(&router, get_page("/healthz")).await.0, StatusCode::OK);
        assert!(
            fetch(&router, get_page("/metrics"))
                .await
                .1
                .contains("process_threads")
        );
        assert_eq!(
            fetch(&router, get_page("/version")).await.1,
            version::text()
        );

        let mut request = get_page("/version");
        request
            .headers_mut()
            .insert(header::ACCEPT, "application/json".parse().unwrap());
        let json: serde_json::Value =
            serde_json::from_str(&fetch(&router, request).await.1).unwrap();
        assert_eq!(json["golang_version"], "");
    }

    #[tokio::test]
    async fn levels_only_for_loopback() {
        let router = Admin::new(Registry::empty(), Readiness::new()).router();
        assert_eq!(
            fetch(&router, get_page("/logging")).await.0,
            StatusCode::FORBIDDEN
        );
        let remote = from_peer(get_page("/logging"), "10.0.0.9:5000");
        assert_eq!(fetch(&router, remote).await.0, StatusCode::FORBIDDEN);
        let mapped = from_peer(get_page("/logging"), "[::ffff:127.0.0.1]:5000");
        assert_ne!(fetch(&router, mapped).await.0, StatusCode::FORBIDDEN);
    }

    #[tokio::test]
    async fn serving_ends_with_the_drain() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let (trigger, watch) = drain::channel();
        let server =
            tokio::spawn(Admin::new(Registry::empty(), Readiness::new()).serve(listener, watch));
        assert!(trigger.drain(std::time::Duration::from_secs(5)).await);
        server.await.unwrap().unwrap();
    }
}
