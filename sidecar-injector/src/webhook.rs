//! The HTTP side of the webhook: `/inject` and `/inject/<key>/<value>/…`.

use crate::config::Config;
use crate::metrics::Metrics;
use crate::review::{self, Answer, Verdict};
use arc_swap::ArcSwapOption;
use axum::Router;
use axum::extract::{Path, Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::post;
use mesh_common::admission;
use std::sync::Arc;
use std::time::Instant;
use tokio::sync::Semaphore;

/// Maximum size of a request, in bytes: several times what an API server can store.
const MAX_BODY: usize = 6 << 20;
/// Maximum number of requests in progress; further ones wait.
const MAX_CONCURRENT: usize = 16;

/// State shared by the handlers.
pub(crate) struct Webhook {
    /// `None` until a configuration was loaded.
    pub(crate) config: ArcSwapOption<Config>,
    pub(crate) metrics: Metrics,
    places: Arc<Semaphore>,
}

impl Webhook {
    pub(crate) fn new(metrics: Metrics) -> Self {
        Self {
            config: ArcSwapOption::empty(),
            metrics,
            places: Arc::new(Semaphore::new(MAX_CONCURRENT)),
        }
    }
}

/// Routes of the webhook.
pub(crate) fn router(webhook: Arc<Webhook>) -> Router {
    Router::new()
        .route("/inject", post(plain))
        .route("/inject/", post(plain))
        .route("/inject/{*pairs}", post(with_pairs))
        .with_state(webhook)
}

async fn plain(State(webhook): State<Arc<Webhook>>, request: Request) -> Response {
    handle(webhook, Vec::new(), request).await
}

async fn with_pairs(
    State(webhook): State<Arc<Webhook>>,
    Path(pairs): Path<String>,
    request: Request,
) -> Response {
    match url_env(&pairs) {
        Ok(env) => handle(webhook, env, request).await,
        Err(error) => {
            webhook.metrics.requests.inc();
            webhook.metrics.failure.inc();
            (StatusCode::BAD_REQUEST, error).into_response()
        }
    }
}

/// Environment variables from the URL path: pairs of name and value. `cluster` and `net` are short
/// for the usual two variables, and `--slash--` in a value is a slash.
fn url_env(path: &str) -> Result<Vec<(String, String)>, String> {
    let parts: Vec<&str> = path.trim_end_matches('/').split('/').collect();
    let mut env = Vec::new();
    for pair in parts.chunks(2) {
        let [name, value] = pair else {
            return Err(format!(
                "/inject/{path}: the variable {:?} has no value\n",
                pair.concat()
            ));
        };
        let name = match *name {
            "cluster" => "ISTIO_META_CLUSTER_ID",
            "net" => "ISTIO_META_NETWORK",
            name => name,
        };
        if name.is_empty() || name.contains(['=', '\0']) {
            return Err(format!(
                "/inject/{path}: {name:?} is not a valid variable name\n"
            ));
        }
        env.push((name.to_owned(), value.replace("--slash--", "/")));
    }
    Ok(env)
}

async fn handle(webhook: Arc<Webhook>, env: Vec<(String, String)>, request: Request) -> Response {
    let started = Instant::now();
    let metrics = webhook.metrics.clone();
    metrics.requests.inc();
    let refuse = |status: StatusCode, text: String| {
        metrics.failure.inc();
        tracing::warn!(
            status = status.as_u16(),
            reason = text.trim(),
            "request refused"
        );
        (status, text).into_response()
    };
    let body = match admission::body(request, MAX_BODY).await {
        Ok(body) => body,
        // Istio's injector responds with 400; its clients do not expect 413.
        Err((StatusCode::PAYLOAD_TOO_LARGE, text)) => return refuse(StatusCode::BAD_REQUEST, text),
        Err((status, text)) => return refuse(status, text),
    };
    let Some(config) = webhook.config.load_full() else {
        return refuse(
            StatusCode::SERVICE_UNAVAILABLE,
            "no valid configuration is loaded yet\n".to_owned(),
        );
    };
    let Ok(place) = Arc::clone(&webhook.places).acquire_owned().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "ending\n".to_owned());
    };
    // On a separate thread: a large Pod takes milliseconds, and a panic must not affect other
    // requests.
    let work = tokio::task::spawn_blocking(move || {
        let answer = review::answer(&body, &env, &config);
        drop(place);
        answer
    });
    let answer = match work.await {
        Ok(answer) => answer,
        Err(error) => {
            tracing::error!(%error, "injection failed");
            review::unavailable("internal error, see the log of the injector")
        }
    };
    metrics.time.observe(started.elapsed().as_secs_f64());
    report(&metrics, &answer);
    axum::Json(answer.body).into_response()
}

fn report(metrics: &Metrics, answer: &Answer) {
    let Answer {
        subject, reason, ..
    } = answer;
    match answer.verdict {
        Verdict::Injected => {
            metrics.success.inc();
            tracing::info!(pod = subject, "injected");
        }
        Verdict::Skipped => {
            metrics.success.inc();
            metrics.skip.inc();
            tracing::info!(pod = subject, reason, "skipped");
        }
        Verdict::Refused => {
            metrics.failure.inc();
            tracing::warn!(pod = subject, reason, "refused");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pairs_in_the_path_become_variables() {
        let env = url_env("cluster/c1/net/a--slash--b/MY_VAR/x/").unwrap();
        let expected = [
            ("ISTIO_META_CLUSTER_ID", "c1"),
            ("ISTIO_META_NETWORK", "a/b"),
            ("MY_VAR", "x"),
        ];
        assert_eq!(
            env,
            expected.map(|(name, value)| (name.to_owned(), value.to_owned()))
        );
        assert!(url_env("cluster").is_err());
        assert!(url_env("a=b/c").is_err());
    }
}
