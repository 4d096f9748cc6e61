//! Debug pages, for loopback clients only.

use std::collections::BTreeMap;
use std::time::Instant;

use axum::extract::{Query, State};
use axum::routing::get;
use axum::{Json, Router};
use istio_api::collections;
use mesh_common::admin;
use mesh_common::mcp::source::{Connections, Snapshots};
use serde::Deserialize;
use serde_json::{Value, json};

use crate::state::QueryHandle;
use galley_engine::problem::Problem;

/// With more files than this (in a cluster each object is one), only those with problems or other
/// remarks are listed.
const LISTED_FILES: usize = 1000;

#[derive(Debug, Clone)]
struct Pages {
    queries: QueryHandle,
    snapshots: Snapshots,
    connections: Connections,
}

/// `/debug/sources`, `/debug/snapshot`, `/debug/connections`, and the latter two also under the
/// names on the introspection port of 1.1.
pub fn pages(queries: QueryHandle, snapshots: Snapshots, connections: Connections) -> Router {
    let pages = Pages {
        queries,
        snapshots,
        connections,
    };
    let router = Router::new()
        .route("/debug/sources", get(sources))
        .route("/debug/snapshot", get(snapshot))
        .route("/snapshotj/", get(snapshot))
        .route("/debug/connections", get(connections_page))
        .route("/connectionsj/", get(connections_page))
        .with_state(pages);
    admin::loopback_only(router)
}

async fn sources(State(pages): State<Pages>) -> Json<Value> {
    let answer = pages.queries.ask(|engine| {
        let problems = engine.problems();
        let text: Vec<String> = problems.iter().map(Problem::to_string).collect();
        let (count, _) = engine.store().counts();
        let files = engine.store().files(count > LISTED_FILES);
        json!({
            "synced": engine.is_synced(),
            "objects": engine.store().len(),
            "collections": engine.counts(),
            "messages": text,
            "problems": problems,
            "withheldEndpoints": engine.withheld(),
            "files": files,
        })
    });
    Json(answer.await.unwrap_or(Value::Null))
}

#[derive(Debug, Deserialize)]
struct Which {
    collection: Option<String>,
}

async fn snapshot(State(pages): State<Pages>, Query(which): Query<Which>) -> Json<Value> {
    let snapshot = pages.snapshots.borrow().clone();
    let Some(snapshot) = snapshot else {
        return Json(Value::Null);
    };
    let mut rows = BTreeMap::new();
    for (name, state) in snapshot.iter() {
        if which
            .collection
            .as_ref()
            .is_some_and(|wanted| **wanted != **name)
        {
            continue;
        }
        let mut resources = Vec::with_capacity(state.resources.len());
        for (resource_name, resource) in &state.resources {
            let metadata = resource.metadata.as_ref();
            let mut row = json!({
                "name": **resource_name,
                "version": metadata.map(|metadata| &metadata.version),
            });
            if which.collection.is_some() {
                let message = collections::by_name(name).map(|row| row.message);
                let body = resource.body.as_ref().zip(message).map(|(body, message)| {
                    istio_api::json::write(message, &body.value)
                        .unwrap_or_else(|error| Value::from(error.to_string()))
                });
                if let Some(row) = row.as_object_mut() {
                    let labels = metadata.map(|metadata| &metadata.labels);
                    let annotations = metadata.map(|metadata| &metadata.annotations);
                    row.insert("labels".to_owned(), json!(labels));
                    row.insert("annotations".to_owned(), json!(annotations));
                    row.insert("body".to_owned(), json!(body));
                }
            }
            resources.push(row);
        }
        let row = json!({
            "version": *state.version,
            "count": state.resources.len(),
            "resources": resources,
        });
        rows.insert(name.to_string(), row);
    }
    Json(json!(rows))
}

async fn connections_page(State(pages): State<Pages>) -> Json<Value> {
    let now = Instant::now();
    let ms = |since: Instant| now.saturating_duration_since(since).as_millis() as u64;
    let rows: BTreeMap<String, Value> = pages
        .connections
        .list()
        .into_iter()
        .map(|(id, stream)| {
            let collections: BTreeMap<String, Value> = stream
                .collections
                .into_iter()
                .map(|(name, progress)| {
                    let row = json!({
                        "sent": progress.sent,
                        "acked": progress.acked,
                        "nack": progress.nack,
                        "pendingMs": progress.pending_since.map(ms),
                        "incremental": progress.incremental,
                    });
                    (name, row)
                })
                .collect();
            let row = json!({
                "service": stream.service,
                "peer": stream.peer,
                "identity": stream.identity,
                "node": stream.node,
                "ageMs": ms(stream.since),
                "collections": collections,
            });
            (id.to_string(), row)
        })
        .collect();
    Json(json!(rows))
}
