//! Common parts of the HTTP applications: listening, one log line per request, the name of the
//! instance in every response, and a shutdown that loses no request.

use anyhow::Context as _;
use axum::Router;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use http::{HeaderValue, Version, header};
use std::future::Future;
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::net::TcpListener;

/// Time for open connections to complete after the listener was closed.
const CLOSE_DEADLINE: Duration = Duration::from_secs(1);

/// Port, identity, and delay of the shutdown.
#[derive(Clone, Debug, clap::Args)]
pub struct Listen {
    /// Port to listen on, on all addresses; 0 for any free port
    #[arg(long, env = "PORT", default_value_t = 9080)]
    pub port: u16,
    #[command(flatten)]
    pub instance: Instance,
}

/// Identity and shutdown of an instance.
#[derive(Clone, Debug, clap::Args)]
pub struct Instance {
    /// Name of this instance in responses
    #[arg(long, env = "POD_NAME", default_value = "local")]
    pub pod_name: String,
    /// Version of this instance in responses
    #[arg(long, env = "SERVICE_VERSION", default_value = "v1")]
    pub service_version: String,
    /// Seconds to keep serving after SIGTERM, until callers have learnt about the termination
    #[arg(long, env = "SHUTDOWN_DELAY", default_value_t = 0)]
    pub shutdown_delay: u64,
}

impl std::ops::Deref for Listen {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.instance
    }
}

/// Resolves on SIGTERM or SIGINT. A second signal has no effect: every shutdown is bounded in time.
pub async fn terminated() {
    use tokio::signal::unix::{SignalKind, signal};
    let Ok(mut term) = signal(SignalKind::terminate()) else {
        tracing::error!(
            "cannot listen for SIGTERM; only SIGINT terminates this process gracefully"
        );
        if let Err(error) = tokio::signal::ctrl_c().await {
            tracing::error!(%error, "cannot listen for SIGINT");
            std::future::pending::<()>().await;
        }
        return;
    };
    tokio::select! {
        _ = term.recv() => {}
        result = tokio::signal::ctrl_c() => if let Err(error) = result {
            tracing::error!(%error, "cannot listen for SIGINT");
            term.recv().await;
        },
    }
}

/// Binds `port` on all IPv6 and IPv4 addresses, or only IPv4 if the host has no IPv6.
///
/// # Errors
/// If the port is in use or may not be bound.
pub async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        Err(_no_ipv6) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            .await
            .with_context(|| format!("cannot listen on port {port}")),
    }
}

/// Serves `app` (HTTP/1.1 and h2c) until `shutdown`.
///
/// # Errors
/// If the port cannot be bound.
pub async fn run(
    listen: &Listen,
    app: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let listener = bind(listen.port).await?;
    serve(listener, &listen.instance, app, shutdown).await
}

/// Serves `app` on a bound listener. Returns at most one second after the shutdown delay of
/// `instance`.
///
/// # Errors
/// If the listener fails.
pub async fn serve(
    listener: TcpListener,
    instance: &Instance,
    app: Router,
    shutdown: impl Future<Output = ()> + Send + 'static,
) -> anyhow::Result<()> {
    let ending = Arc::new(AtomicBool::new(false));
    let stamp = Arc::new(Stamp {
        pod_name: header_value(&instance.pod_name),
        version: header_value(&instance.service_version),
        ending: Arc::clone(&ending),
    });
    let app = app.layer(middleware::from_fn_with_state(stamp, observe));
    tracing::info!(address = %listener.local_addr()?, "listening");
    let delay = Duration::from_secs(instance.shutdown_delay);
    let (closed_tx, closed_rx) = tokio::sync::oneshot::channel::<()>();
    let close = async move {
        shutdown.await;
        ending.store(true, Ordering::Relaxed);
        tracing::info!(delay_s = delay.as_secs(), "ending");
        tokio::time::sleep(delay).await;
        // The receiver waits in the select below while the server runs.
        let _sent = closed_tx.send(());
    };
    let server = axum::serve(
        listener,
        app.into_make_service_with_connect_info::<SocketAddr>(),
    )
    .with_graceful_shutdown(close);
    let deadline = async move {
        if closed_rx.await.is_err() {
            std::future::pending::<()>().await;
        }
        tokio::time::sleep(CLOSE_DEADLINE).await;
    };
    tokio::select! {
        result = server => result.context("the server failed"),
        () = deadline => Ok(()),
    }
}

/// Headers of every response.
struct Stamp {
    pod_name: HeaderValue,
    version: HeaderValue,
    ending: Arc<AtomicBool>,
}

fn header_value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| HeaderValue::from_static("unprintable"))
}

async fn observe(State(stamp): State<Arc<Stamp>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let method = request.method().clone();
    let path = request.uri().path().to_owned();
    let version = request.version();
    let id = request
        .headers()
        .get("x-request-id")
        .and_then(|v| v.to_str().ok())
        .map(str::to_owned);
    let mut response = next.run(request).await;
    let headers = response.headers_mut();
    headers.insert("x-served-by", stamp.pod_name.clone());
    headers.insert("x-app-version", stamp.version.clone());
    if stamp.ending.load(Ordering::Relaxed) && version < Version::HTTP_2 {
        // Callers then open their next connection elsewhere, and none is cut between two requests.
        headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
    }
    if path != "/health" {
        tracing::info!(
            %method,
            path,
            status = response.status().as_u16(),
            elapsed_ms = u64::try_from(started.elapsed().as_millis()).unwrap_or(u64::MAX),
            request_id = id,
            "request"
        );
    }
    response
}

/// Response to `GET /health`.
pub fn health(name: &str) -> axum::Json<serde_json::Value> {
    axum::Json(serde_json::json!({"status": format!("{name} is healthy")}))
}
