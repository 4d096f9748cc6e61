//! HTTPS: `/admitpilot`, its alias `/validate`, and `/ready`.

use std::sync::Arc;

use anyhow::Context as _;
use axum::extract::{Request, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use futures::FutureExt as _;
use mesh_common::readiness::Gate;
use mesh_common::tls::{self, CertFiles, ReloadingServerConfig, ServerOptions, Status};
use mesh_common::{admission, drain};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;

use super::Metrics;
use super::review::{self, Answer, Outcome};
use crate::certificate;

/// Maximum size of a request, in bytes: room for an object of the largest size that is stored,
/// before and after a change, and as much again.
const MAX_BODY: usize = 7 * (1 << 20) + (1 << 19);
/// Requests that are processed at a time; others wait.
const MAX_CONCURRENT: usize = 8;

struct Shared {
    metrics: Metrics,
    places: Arc<Semaphore>,
}

/// Serves until the process drains. `ready` is open while the certificate is valid.
///
/// # Errors
/// If the listener fails or the certificate's files are no longer watched.
pub async fn serve(
    listener: TcpListener,
    files: CertFiles,
    metrics: Metrics,
    ready: Gate,
    drain: drain::Watch,
) -> anyhow::Result<()> {
    let config = tokio::select! {
        () = drain.signaled() => return Ok(()),
        config = ReloadingServerConfig::wait(&files, ServerOptions::https()) => config,
    };
    let files = config.follow(drain.clone());
    let observed = metrics.clone();
    let mut before = Status::default();
    metrics.cert_key_updates.inc();
    let observe = certificate::watch(config.clone(), ready, drain.clone(), move |end, now| {
        observed.cert_expiry.set(end.unwrap_or_default());
        let reloads = now.reloads.saturating_sub(before.reloads);
        observed.cert_key_updates.inc_by(reloads);
        let failures = now.failures.saturating_sub(before.failures);
        let errors = observed.cert_key_update_errors.with_label_values(&["load"]);
        errors.inc_by(failures);
        before = now.clone();
    });
    let connections = tls::incoming(listener, config, tls::Limits::default())?;
    let serve = admission::serve(connections, router(metrics), drain);
    tokio::try_join!(
        async { serve.await.context("cannot serve the webhook") },
        async { files.await.context("certificate of the webhook") },
        observe.map(Ok),
    )?;
    Ok(())
}

/// The routes of the webhook.
fn router(metrics: Metrics) -> Router {
    let shared = Shared {
        metrics,
        places: Arc::new(Semaphore::new(MAX_CONCURRENT)),
    };
    Router::new()
        .route("/admitpilot", post(admit))
        .route("/validate", post(admit))
        .route("/ready", get(|| async {}))
        .with_state(Arc::new(shared))
}

async fn admit(State(shared): State<Arc<Shared>>, request: Request) -> Response {
    let refuse = |status: StatusCode, text: String| {
        let code = status.as_u16().to_string();
        shared.metrics.http_error.with_label_values(&[&code]).inc();
        tracing::warn!(target: "validation", status = code, "request rejected: {}", text.trim());
        (status, text).into_response()
    };
    let body = match admission::body(request, MAX_BODY).await {
        Ok(body) => body,
        Err((status, text)) => return refuse(status, text),
    };
    let Ok(place) = Arc::clone(&shared.places).acquire_owned().await else {
        return refuse(StatusCode::SERVICE_UNAVAILABLE, "ending\n".to_owned());
    };
    // On a thread of its own, as a large object takes milliseconds.
    let work = tokio::task::spawn_blocking(move || {
        let answer = review::answer(&body);
        drop(place);
        answer
    });
    match work.await {
        Ok(Ok(answer)) => {
            shared.metrics.count(&answer);
            report(&answer);
            Json(answer.body).into_response()
        }
        Ok(Err(error)) => refuse(StatusCode::BAD_REQUEST, format!("{error}\n")),
        Err(error) => {
            tracing::error!(target: "validation", "validation panicked: {error}");
            let text = "internal error: see galley's log\n".to_owned();
            refuse(StatusCode::INTERNAL_SERVER_ERROR, text)
        }
    }
}

fn report(answer: &Answer) {
    if answer.outcome != Outcome::Passed && !answer.quiet {
        tracing::info!(
            target: "validation",
            object = answer.subject,
            "rejected: {}",
            answer.message
        );
    }
}
