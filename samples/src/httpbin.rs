//! HTTP server that echoes requests and responds as its path requests. Paths and JSON formats
//! follow the public httpbin API; `/fail-first` and `/request-count` are additions.

mod answer;
mod behave;
mod echo;

use crate::server::{self, Listen};
use axum::Router;
use axum::extract::{DefaultBodyLimit, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::{any, get, post};
use parking_lot::Mutex;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// Maximum size of a request body, in bytes.
const MAX_BODY: usize = 1 << 20;

/// Settings of httpbin.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Port to listen on, on all addresses; 0 for any free port
    #[arg(long, env = "PORT", default_value_t = 8080)]
    pub port: u16,
    #[command(flatten)]
    pub instance: server::Instance,
}

impl Args {
    /// The corresponding settings of the other applications.
    pub fn listen(&self) -> Listen {
        Listen {
            port: self.port,
            instance: self.instance.clone(),
        }
    }
}

/// State of the endpoints: the name of this instance, and counters.
#[derive(Debug)]
struct Bin {
    pod_name: String,
    requests: AtomicU64,
    /// Calls of `/fail-first` by key, at most `behave::MAX_KEYS`.
    calls: Mutex<BTreeMap<String, u64>>,
}

/// All endpoints.
pub fn router(pod_name: &str) -> Router {
    let bin = Arc::new(Bin {
        pod_name: pod_name.to_owned(),
        requests: AtomicU64::new(0),
        calls: Mutex::default(),
    });
    Router::new()
        .route("/get", get(echo::show))
        .route("/post", post(echo::show_with_body))
        .route("/put", axum::routing::put(echo::show_with_body))
        .route("/patch", axum::routing::patch(echo::show_with_body))
        .route("/delete", axum::routing::delete(echo::show_with_body))
        .route("/anything", any(echo::anything))
        .route("/anything/{*rest}", any(echo::anything))
        .route("/headers", get(echo::headers))
        .route("/ip", get(echo::ip))
        .route("/user-agent", get(echo::user_agent))
        .route("/cookies", get(echo::cookies))
        .route("/cookies/set", get(echo::set_cookies))
        .route("/dump/request", any(echo::dump))
        .route("/status/{codes}", any(behave::status))
        .route("/delay/{seconds}", any(behave::delay))
        .route("/fail-first/{count}/{key}", any(behave::fail_first))
        .route("/redirect/{count}", get(behave::redirect))
        .route("/redirect-to", any(behave::redirect_to))
        .route("/basic-auth/{user}/{password}", get(behave::basic_auth))
        .route("/bearer", get(behave::bearer))
        .route("/response-headers", get(answer::response_headers))
        .route("/bytes/{count}", get(answer::bytes))
        .route("/stream/{count}", get(answer::stream))
        .route("/drip", get(answer::drip))
        .route("/cache", get(answer::cache))
        .route("/etag/{etag}", get(answer::etag))
        .route("/base64/{value}", get(answer::base64))
        .route("/uuid", get(answer::uuid))
        .route("/json", get(answer::json))
        .route("/html", get(answer::html))
        .route("/xml", get(answer::xml))
        .route("/robots.txt", get(answer::robots))
        .route("/hostname", get(answer::hostname))
        .route("/request-count", get(answer::request_count))
        .route("/health", get(|| async { server::health("Httpbin") }))
        .layer(DefaultBodyLimit::max(MAX_BODY))
        .layer(middleware::from_fn_with_state(Arc::clone(&bin), count))
        .with_state(bin)
}

/// Counts requests to this instance, except those for its own state.
async fn count(State(bin): State<Arc<Bin>>, request: Request, next: Next) -> Response {
    if !matches!(request.uri().path(), "/health" | "/request-count") {
        bin.requests.fetch_add(1, Ordering::Relaxed);
    }
    next.run(request).await
}
