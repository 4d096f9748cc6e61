//! A minimal API server: lists in pages, and their failures.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use axum::extract::{Query, State};
use axum::http::{StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use axum::{Json, Router};
use serde_json::{Value, json};

/// Its responses.
#[derive(Debug, Default)]
pub(crate) struct Server {
    lists: BTreeMap<String, Vec<Value>>,
    forbidden: BTreeSet<String>,
    broken: BTreeSet<String>,
    hanging: BTreeSet<String>,
    expiring: BTreeMap<String, AtomicBool>,
    asked: BTreeMap<String, AtomicUsize>,
}

impl Server {
    pub(crate) fn new() -> Self {
        Self::default()
    }

    /// Serves a kind.
    pub(crate) fn serve(&mut self, path: &str) {
        self.lists.entry(path.to_owned()).or_default();
        self.asked.entry(path.to_owned()).or_default();
    }

    pub(crate) fn add(&mut self, path: &str, object: Value) {
        self.serve(path);
        self.lists.get_mut(path).unwrap().push(object);
    }

    pub(crate) fn forbid(&mut self, path: &str) {
        self.forbidden.insert(path.to_owned());
    }

    pub(crate) fn break_down(&mut self, path: &str) {
        self.broken.insert(path.to_owned());
    }

    /// Never responds.
    pub(crate) fn hang(&mut self, path: &str) {
        self.hanging.insert(path.to_owned());
    }

    /// Expires the first continuation of a list.
    pub(crate) fn expire_once(&mut self, path: &str) {
        self.expiring.insert(path.to_owned(), AtomicBool::new(true));
    }

    /// Listens, and writes a kubeconfig `config` with the namespace `shop` into the directory.
    pub(crate) fn start(self, directory: &Path) -> Running {
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .unwrap();
        let state = Arc::new(self);
        let app = Router::new().fallback(answer).with_state(state.clone());
        let listener = runtime
            .block_on(tokio::net::TcpListener::bind("127.0.0.1:0"))
            .unwrap();
        let address = listener.local_addr().unwrap();
        runtime.spawn(async move { axum::serve(listener, app).await });
        let config = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "test",
            "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "test", "user": {}}],
            "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test", "namespace": "shop"}}],
        });
        std::fs::write(directory.join("config"), config.to_string()).unwrap();
        Running { state, runtime }
    }
}

/// A running server, stopped when dropped.
pub(crate) struct Running {
    state: Arc<Server>,
    #[expect(dead_code, reason = "the server lives as long as its runtime")]
    runtime: tokio::runtime::Runtime,
}

impl Running {
    /// Number of requests for a list.
    pub(crate) fn pages(&self, path: &str) -> usize {
        self.state.asked.get(path).unwrap().load(Ordering::SeqCst)
    }
}

fn status(code: StatusCode) -> Response {
    let text = code.canonical_reason().unwrap();
    let body = json!({"apiVersion": "v1", "kind": "Status", "metadata": {}, "status": "Failure",
        "message": text, "reason": text.replace(' ', ""), "code": code.as_u16()});
    (code, Json(body)).into_response()
}

async fn answer(
    State(server): State<Arc<Server>>,
    uri: Uri,
    Query(query): Query<BTreeMap<String, String>>,
) -> Response {
    let path = uri.path();
    if server.hanging.contains(path) {
        std::future::pending::<()>().await;
    }
    if server.forbidden.contains(path) {
        return status(StatusCode::FORBIDDEN);
    }
    if server.broken.contains(path) {
        return status(StatusCode::INTERNAL_SERVER_ERROR);
    }
    let Some(all) = server.lists.get(path) else {
        return status(StatusCode::NOT_FOUND);
    };
    server
        .asked
        .get(path)
        .unwrap()
        .fetch_add(1, Ordering::SeqCst);
    let number = |name: &str| query.get(name).and_then(|text| text.parse::<usize>().ok());
    let start = number("continue").unwrap_or_default();
    let expires = server.expiring.get(path);
    if start > 0 && expires.is_some_and(|once| once.swap(false, Ordering::SeqCst)) {
        return status(StatusCode::GONE);
    }
    let limit = number("limit").unwrap();
    assert!(limit <= 500, "a page of {limit} objects");
    let items: Vec<&Value> = all.iter().skip(start).take(limit).collect();
    let next = start + items.len();
    let next = if next < all.len() {
        next.to_string()
    } else {
        String::new()
    };
    Json(
        json!({"apiVersion": "v1", "kind": "List", "metadata": {"continue": next}, "items": items}),
    )
    .into_response()
}
