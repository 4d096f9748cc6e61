//! The parts of the page that come from other services.

use axum::Json;
use axum::response::{IntoResponse, Response};
use http::StatusCode;
use serde_json::Value;

/// Response of another service: its status and JSON, or the reason why there is none.
#[derive(Debug)]
pub(super) struct Part {
    pub(super) status: StatusCode,
    pub(super) body: Value,
}

impl IntoResponse for Part {
    fn into_response(self) -> Response {
        (self.status, Json(self.body)).into_response()
    }
}
