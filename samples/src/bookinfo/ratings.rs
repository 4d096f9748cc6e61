//! Star ratings of books, kept in memory.

use super::{book_id, failure};
use crate::server::{self, Listen};
use axum::body::Bytes;
use axum::extract::{Path, State};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use http::StatusCode;
use parking_lot::Mutex;
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;

/// Maximum number of rated books; further ratings are rejected.
const MAX_BOOKS: usize = 1000;
/// Maximum number of reviewers per book.
const MAX_REVIEWERS: usize = 100;

/// Settings of ratings.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub listen: Listen,
}

type Stars = BTreeMap<String, u8>;
type Store = Arc<Mutex<BTreeMap<u64, Stars>>>;

/// `GET` and `POST /ratings/{id}`, `GET /health`.
pub fn router() -> Router {
    Router::new()
        .route("/health", get(|| async { server::health("Ratings") }))
        .route("/ratings/{id}", get(read).post(write))
        .with_state(Store::default())
}

async fn read(State(store): State<Store>, Path(id): Path<String>) -> Response {
    let id = match book_id(&id) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let stars =
        store.lock().get(&id).cloned().unwrap_or_else(|| {
            Stars::from([("Reviewer1".to_owned(), 5), ("Reviewer2".to_owned(), 4)])
        });
    Json(json!({"id": id, "ratings": stars})).into_response()
}

async fn write(State(store): State<Store>, Path(id): Path<String>, body: Bytes) -> Response {
    let id = match book_id(&id) {
        Ok(id) => id,
        Err(refusal) => return *refusal,
    };
    let Ok(stars) = serde_json::from_slice::<Stars>(&body) else {
        return failure(
            StatusCode::BAD_REQUEST,
            "please provide valid ratings JSON: reviewer name to number of stars",
        );
    };
    let mut books = store.lock();
    let full = books.len() >= MAX_BOOKS && !books.contains_key(&id);
    if full || stars.len() > MAX_REVIEWERS {
        return failure(StatusCode::INSUFFICIENT_STORAGE, "too many ratings to keep");
    }
    books.insert(id, stars.clone());
    Json(json!({"id": id, "ratings": stars})).into_response()
}
