//! The protocol: lists, watches, and the dispatch of other requests.

use std::collections::BTreeMap;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use serde_json::Value;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::contents::{Contents, status};
use super::path::{Path, Scope};
use super::{Shared, review, same};

type Parameters = BTreeMap<String, String>;

/// Serves until the server goes down.
pub(super) fn serve(listener: &std::net::TcpListener, shared: &Shared) -> JoinHandle<()> {
    shared.down.send_replace(false);
    let router = Router::new().fallback(answer).with_state(shared.clone());
    let mut down = shared.down.subscribe();
    let serve = axum::serve(same(listener), router).with_graceful_shutdown(async move {
        down.wait_for(|down| *down).await.unwrap();
    });
    tokio::spawn(async move { serve.await.unwrap() })
}

pub(super) fn refusal(code: StatusCode, body: &Value) -> Response {
    (code, body.to_string()).into_response()
}

fn is_forbidden(contents: &Contents, path: &str) -> bool {
    let mut forbidden = contents.forbidden.iter();
    forbidden.any(|forbidden| {
        let below = path.strip_prefix(forbidden.as_str());
        below.is_some_and(|below| below.is_empty() || below.starts_with('/'))
    })
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    if review::is_review(&path) {
        return answer_review(&shared, &uri, &body).await;
    }
    // A single lock: whoever sees the request also sees its effect.
    let mut contents = shared.contents.lock();
    contents
        .requests
        .push((method.to_string(), uri.to_string()));
    shared.changed.send_replace(());
    if is_forbidden(&contents, &path) {
        let body = status(403, "it is forbidden");
        return refusal(StatusCode::FORBIDDEN, &body);
    }
    if let Some(one) = Path::parse(&path)
        && (method != Method::GET || !one.name.is_empty())
    {
        return contents.one(&method, &one, &body);
    }
    let fields = parameters.get("fieldSelector").map(String::as_str);
    let scope = Scope::new(&path, fields);
    if !parameters.contains_key("watch") {
        let limit = parameters["limit"].parse().unwrap();
        let token = parameters.get("continue").map(String::as_str);
        return match contents.list(&scope, limit, token) {
            Ok(list) => list.to_string().into_response(),
            Err(body) => refusal(StatusCode::GONE, &body),
        };
    }
    assert_eq!(parameters["allowWatchBookmarks"], "true");
    let version = parameters["resourceVersion"].parse().unwrap();
    // As on real servers, an open watch gets an event, and a new one a status.
    let collection = contents.collections.get(&scope.collection);
    if collection.is_some_and(|collection| version < collection.forgotten) {
        return refusal(StatusCode::GONE, &status(410, "too old resource version"));
    }
    let generation = contents.generation;
    *contents.watches.entry(path.clone()).or_default() += 1;
    drop(contents);
    let watch = Watch {
        changed: shared.changed.subscribe(),
        down: shared.down.subscribe(),
        open: Open { shared, path },
        scope,
        generation,
        version: Some(version),
    };
    let stream = futures::stream::unfold(watch, Watch::next);
    Body::from_stream(stream).into_response()
}

async fn answer_review(shared: &Shared, uri: &Uri, body: &Bytes) -> Response {
    let answer = {
        let mut contents = shared.contents.lock();
        contents.requests.push(("POST".to_owned(), uri.to_string()));
        shared.changed.send_replace(());
        if is_forbidden(&contents, uri.path()) {
            return refusal(StatusCode::FORBIDDEN, &status(403, "it is forbidden"));
        }
        contents.review(uri.path(), serde_json::from_slice(body).unwrap())
    };
    let (mut held, mut down) = (shared.reviews_held.subscribe(), shared.down.subscribe());
    tokio::select! {
        released = held.wait_for(|held| !*held) => drop(released.unwrap()),
        _ = down.wait_for(|down| *down) => return StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
    (StatusCode::CREATED, answer.to_string()).into_response()
}

/// Counts an open watch.
struct Open {
    shared: Shared,
    path: String,
}

impl Drop for Open {
    fn drop(&mut self) {
        let mut contents = self.shared.contents.lock();
        if let Some(open) = contents.watches.get_mut(&self.path) {
            *open -= 1;
        }
        self.shared.changed.send_replace(());
    }
}

struct Watch {
    open: Open,
    changed: watch::Receiver<()>,
    down: watch::Receiver<bool>,
    scope: Scope,
    generation: u64,
    /// `None` after an error.
    version: Option<u64>,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        loop {
            let after = self.version?;
            self.changed.mark_unchanged();
            let (event, is_over) = {
                let contents = self.open.shared.contents.lock();
                let is_over = contents.generation != self.generation;
                (contents.next(&self.scope, after), is_over)
            };
            if let Some((version, event)) = event {
                self.version = version;
                return Some((Ok(format!("{event}\n").into()), self));
            }
            if is_over {
                return None;
            }
            tokio::select! {
                changed = self.changed.changed() => changed.unwrap(),
                _ = self.down.wait_for(|down| *down) => return None,
            }
        }
    }
}
