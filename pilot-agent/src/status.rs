//! The status server: readiness, probes, metrics, and the two requests that terminate the proxy.

use std::{net::SocketAddr, sync::Arc, time::Duration};

use anyhow::Context as _;
use axum::{
    Router,
    body::Body,
    extract::{ConnectInfo, Request, State},
    http::{Method, StatusCode},
    response::{IntoResponse as _, Response},
    routing::any,
};
use tokio::net::TcpListener;

use crate::{
    envoy::drain::Drain,
    lifecycle::{Lifecycle, Phase},
};

pub mod accept;
pub mod labels;
pub mod probe;
pub mod ready;
pub mod rewrite;
pub mod scrape;

/// Timeout of slow requests.
const REQUEST_LIMIT: Duration = Duration::from_secs(60);

/// State of the handlers.
#[derive(Debug)]
pub struct Server {
    /// Readiness check of Envoy.
    pub ready: ready::Ready,
    /// Probes of the application.
    pub probes: probe::Probes,
    /// Metrics of agent, Envoy and application.
    pub scrape: scrape::Scrape,
    /// Serve metrics to this Pod only.
    pub metrics_local_only: bool,
    /// Phase of the proxy.
    pub lifecycle: Lifecycle,
    /// Draining of Envoy.
    pub drain: Drain,
}

/// Opens the port.
///
/// # Errors
/// If it cannot be bound.
pub async fn listen(wildcard: &str, port: u16) -> anyhow::Result<TcpListener> {
    let host = if wildcard.contains(':') {
        format!("[{wildcard}]")
    } else {
        wildcard.to_owned()
    };
    let address = format!("{host}:{port}");
    TcpListener::bind(&address)
        .await
        .with_context(|| format!("cannot listen on {address} for the status port"))
}

/// Serves until dropped.
///
/// # Errors
/// If the listener fails.
pub async fn serve(listener: TcpListener, server: Arc<Server>) -> std::io::Result<()> {
    let app = router(server).into_make_service_with_connect_info::<SocketAddr>();
    axum::serve(listener, app).await
}

/// The routes.
pub fn router(server: Arc<Server>) -> Router {
    Router::new()
        .route("/healthz/ready", any(readiness))
        .route("/app-health/{container}/{probe}", any(app_probe))
        .route("/app-lifecycle/{container}/{probe}", any(app_probe))
        .route("/metrics", any(metrics))
        .route("/stats/prometheus", any(metrics))
        .route("/quitquitquit", any(quit))
        .route("/drain", any(drain))
        .with_state(server)
}

type Shared = State<Arc<Server>>;

async fn readiness(State(server): Shared) -> Response {
    match server.ready.check().await {
        Ok(()) => StatusCode::OK.into_response(),
        Err(reason) => (StatusCode::SERVICE_UNAVAILABLE, format!("{reason}\n")).into_response(),
    }
}

async fn app_probe(State(server): Shared, request: Request) -> Response {
    let path = request.uri().path().to_owned();
    let call = server.probes.run(&path, request.headers());
    match tokio::time::timeout(REQUEST_LIMIT, call).await {
        Ok(outcome) => (outcome.status, outcome.body).into_response(),
        Err(_) => StatusCode::INTERNAL_SERVER_ERROR.into_response(),
    }
}

async fn metrics(
    State(server): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    request: Request,
) -> Response {
    if server.metrics_local_only && !is_local(peer) {
        return StatusCode::FORBIDDEN.into_response();
    }
    let query = request.uri().query().map(str::to_owned);
    let (content_type, body) = server.scrape.run(query.as_deref(), request.headers()).await;
    (
        [(axum::http::header::CONTENT_TYPE, content_type)],
        Body::from_stream(body),
    )
        .into_response()
}

async fn quit(
    State(server): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
) -> Response {
    if let Some(refusal) = refuse(&method, peer) {
        return refusal;
    }
    tracing::info!("received a quit request");
    server.lifecycle.advance(Phase::Drained);
    server.lifecycle.advance(Phase::Ending);
    "OK".into_response()
}

async fn drain(
    State(server): Shared,
    ConnectInfo(peer): ConnectInfo<SocketAddr>,
    method: Method,
) -> Response {
    if let Some(refusal) = refuse(&method, peer) {
        return refusal;
    }
    tracing::info!("received a drain request");
    if let Err(error) = server.drain.announce().await {
        tracing::warn!(error, "cannot start draining");
    }
    server.lifecycle.advance(Phase::Drained);
    "OK".into_response()
}

/// Only the Pod itself may terminate its proxy, and only with POST.
fn refuse(method: &Method, peer: SocketAddr) -> Option<Response> {
    if !is_local(peer) {
        return Some(
            (
                StatusCode::FORBIDDEN,
                "only requests from localhost are allowed\n",
            )
                .into_response(),
        );
    }
    (method != Method::POST).then(|| (StatusCode::METHOD_NOT_ALLOWED, "use POST\n").into_response())
}

fn is_local(peer: SocketAddr) -> bool {
    peer.ip().to_canonical().is_loopback()
}
