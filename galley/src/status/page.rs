//! `/debug/status`: every object with its status, written or desired.

use axum::extract::{Query, State};
use axum::http::StatusCode;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use mesh_common::admin;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::board::{Board, Listed};
use super::distribution::Standing;
use super::writer::Question;

/// Filter of the query.
#[derive(Debug, Default, Deserialize)]
struct Which {
    kind: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

impl Which {
    fn takes(&self, object: &Listed<'_>) -> bool {
        let (key, _) = object.id;
        let is = |wanted: &Option<String>, text: &str| {
            wanted.as_deref().is_none_or(|wanted| wanted == text)
        };
        is(&self.kind, key.kind) && is(&self.namespace, &key.namespace) && is(&self.name, &key.name)
    }
}

/// The page, for loopback clients; `?kind=`, `?namespace=` and `?name=` filter objects. Without a
/// writer it says how to enable it.
pub fn page(writer: Option<Question>) -> Router {
    let router = match writer {
        Some(question) => Router::new()
            .route("/debug/status", get(status))
            .with_state(question),
        None => Router::new().route("/debug/status", get(off)),
    };
    admin::loopback_only(router)
}

async fn off() -> Response {
    let text = "statuses are not enabled: start galley with --enable-status\n";
    (StatusCode::NOT_FOUND, text).into_response()
}

async fn status(State(Question(ask)): State<Question>, Query(which): Query<Which>) -> Response {
    let (answer, answered) = oneshot::channel();
    let question = move |board: &Board, is_leader: bool| {
        // The client may have disconnected.
        let _ = answer.send(render(board, is_leader, &which));
    };
    if ask.send(Box::new(question)).await.is_ok()
        && let Ok(value) = answered.await
    {
        return Json(value).into_response();
    }
    (StatusCode::SERVICE_UNAVAILABLE, "galley is shutting down\n").into_response()
}

fn render(board: &Board, is_leader: bool, which: &Which) -> Value {
    let objects = board.list().filter(|object| which.takes(object));
    let objects: Vec<Value> = objects.map(row).collect();
    json!({
        "ready": board.is_ready(),
        "leader": is_leader,
        "pilots": board.pilots(),
        "waiting": board.waiting(),
        "objects": objects,
    })
}

fn row(object: Listed<'_>) -> Value {
    let (key, path) = object.id;
    let messages = object.findings.iter().map(|finding| {
        let code = finding.code;
        json!({"code": code.code, "level": code.level.name(), "message": finding.text})
    });
    let messages: Vec<Value> = messages.collect();
    json!({
        "group": key.group,
        "kind": key.kind,
        "namespace": &*key.namespace,
        "name": &*key.name,
        "file": path.display().to_string(),
        "status": object.status,
        "proxies": object.standing.map(proxies),
        "messages": messages,
        "waiting": object.is_waiting,
    })
}

/// The present numbers, which may be newer than the status.
fn proxies(standing: Standing) -> Value {
    match standing {
        Standing::NotReported => Value::Null,
        Standing::Reported(sum) => json!({
            "reached": sum.reached,
            "held": sum.held,
            "pilots": sum.pilots,
            "pilotsBehind": sum.behind,
        }),
    }
}
