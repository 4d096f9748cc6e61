//! Details of a book.

use super::book_id;
use crate::server::{self, Listen};
use axum::extract::Path;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Json, Router};
use serde_json::json;

/// Settings of details.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub listen: Listen,
}

/// `GET /details/{id}`, `GET /health`.
pub fn router() -> Router {
    Router::new()
        .route("/health", get(|| async { server::health("Details") }))
        .route("/details/{id}", get(details))
}

async fn details(Path(id): Path<String>) -> Response {
    match book_id(&id) {
        Ok(id) => Json(json!({
            "id": id,
            "author": "William Shakespeare",
            "year": 1595,
            "type": "paperback",
            "pages": 200,
            "publisher": "PublisherA",
            "language": "English",
            "ISBN-10": "1234567890",
            "ISBN-13": "123-1234567890"
        }))
        .into_response(),
        Err(refusal) => *refusal,
    }
}
