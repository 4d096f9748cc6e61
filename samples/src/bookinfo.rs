//! The book shop: four services on port 9080 that call each other by name.

pub mod details;
mod page;
mod part;
pub mod productpage;
pub mod ratings;
pub mod reviews;
mod session;

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::{Value, json};

/// Address of another service of the shop, `http://host[.domain]:port`.
fn base_url(host: &str, domain: &str, port: u16) -> String {
    if domain.is_empty() {
        format!("http://{host}:{port}")
    } else {
        format!("http://{host}.{domain}:{port}")
    }
}

fn failure(status: StatusCode, text: &str) -> Response {
    (status, Json(json!({"error": text}))).into_response()
}

/// The book number in the path, or the response that rejects it.
fn book_id(text: &str) -> Result<u64, Box<Response>> {
    text.parse().map_err(|_| {
        Box::new(failure(
            StatusCode::BAD_REQUEST,
            "please provide numeric product ID",
        ))
    })
}

fn object(bytes: &[u8]) -> Option<Value> {
    serde_json::from_slice(bytes).ok()
}
