//! AdmissionReview of API servers: reading it from a request, answering, and serving.
//!
//! `admission.k8s.io/v1`, and `v1beta1` for older servers; a response has the version of its
//! request.

mod server;

use axum::body::Body;
use axum::extract::Request;
use axum::http::{StatusCode, header};
use bytes::Bytes;
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};

pub use server::serve;

/// The current version.
pub const VERSION: &str = "admission.k8s.io/v1";
const OLD_VERSION: &str = "admission.k8s.io/v1beta1";
const KIND: &str = "AdmissionReview";
const CONTENT_TYPE: &str = "application/json";

/// Why the body of a request is rejected: a status and a line of text.
pub type Refusal = (StatusCode, String);

/// The body of a request: JSON of at most `most` bytes.
///
/// # Errors
/// 400 without a body or if it is incomplete, 413 if it is too large, 415 if it is not JSON.
pub async fn body(request: Request, most: usize) -> Result<Bytes, Refusal> {
    let content_type = request.headers().get(header::CONTENT_TYPE);
    let content_type = content_type.and_then(|value| value.to_str().ok());
    let content_type = content_type.unwrap_or_default().to_owned();
    let body = read(request.into_body(), most).await?;
    if body.is_empty() {
        let text = "the request has no body: want an AdmissionReview\n".to_owned();
        return Err((StatusCode::BAD_REQUEST, text));
    }
    let mut parts = content_type.split(';');
    if parts.next().is_none_or(|kind| kind.trim() != CONTENT_TYPE) {
        let text = format!("content type {content_type:?} is not supported: want {CONTENT_TYPE}\n");
        return Err((StatusCode::UNSUPPORTED_MEDIA_TYPE, text));
    }
    Ok(body)
}

async fn read(body: Body, most: usize) -> Result<Bytes, Refusal> {
    match Limited::new(body, most).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => {
            let text = format!("the body is too large: the limit is {most} bytes\n");
            Err((StatusCode::PAYLOAD_TOO_LARGE, text))
        }
        Err(error) => {
            let text = format!("cannot read the body: {error}\n");
            Err((StatusCode::BAD_REQUEST, text))
        }
    }
}

/// Why bytes cannot be answered.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ReadError {
    /// They are not an AdmissionReview.
    #[error("{0}")]
    NoReview(String),
    /// The review has no `request`.
    #[error("the {KIND} has no request")]
    NoRequest {
        /// Version of the review.
        version: &'static str,
    },
}

impl ReadError {
    /// The version of the response.
    #[must_use]
    pub fn version(&self) -> &'static str {
        match self {
            Self::NoReview(_) => VERSION,
            Self::NoRequest { version } => version,
        }
    }
}

/// A request for admission.
#[derive(Debug)]
pub struct Review {
    version: &'static str,
    request: Value,
}

impl Review {
    /// Reads an AdmissionReview.
    ///
    /// # Errors
    /// If the bytes are not an AdmissionReview, or it has no request.
    pub fn read(bytes: &[u8]) -> Result<Self, ReadError> {
        let mut review: Value = serde_json::from_slice(bytes)
            .map_err(|error| ReadError::NoReview(format!("invalid JSON: {error}")))?;
        let text = |name: &str| review.get(name).and_then(Value::as_str).unwrap_or_default();
        let version = match (text("apiVersion"), text("kind")) {
            (VERSION, KIND) => VERSION,
            (OLD_VERSION, KIND) => OLD_VERSION,
            (version, kind) => {
                let text = format!(
                    "apiVersion {version:?} kind {kind:?} is unsupported: want {KIND} of {VERSION}"
                );
                return Err(ReadError::NoReview(text));
            }
        };
        match review.get_mut("request").map(Value::take) {
            Some(request @ Value::Object(_)) => Ok(Self { version, request }),
            _ => Err(ReadError::NoRequest { version }),
        }
    }

    /// The text at a JSON pointer of the request, such as `/kind/group`; empty if there is none.
    #[must_use]
    pub fn text(&self, pointer: &str) -> &str {
        let value = self.request.pointer(pointer);
        value.and_then(Value::as_str).unwrap_or_default()
    }

    /// The new state of the object; null for a deletion.
    #[must_use]
    pub fn object(&self) -> &Value {
        self.request.get("object").unwrap_or(&Value::Null)
    }

    /// Moves the object out.
    #[must_use]
    pub fn take_object(&mut self) -> Value {
        let object = self.request.get_mut("object").map(Value::take);
        object.unwrap_or_default()
    }

    /// Whether nothing will be stored.
    #[must_use]
    pub fn is_dry_run(&self) -> bool {
        self.request.get("dryRun") == Some(&Value::Bool(true))
    }

    /// The version of the response.
    #[must_use]
    pub fn version(&self) -> &'static str {
        self.version
    }

    /// The `uid` of the request, which the response must repeat.
    #[must_use]
    pub fn uid(&self) -> &str {
        self.text("/uid")
    }
}

/// The response as a document. The `uid` and any warnings are added to `response`.
#[must_use]
pub fn answer(version: &str, uid: &str, mut response: Value, warnings: &[String]) -> Value {
    if let Some(members) = response.as_object_mut() {
        members.insert("uid".to_owned(), json!(uid));
        if !warnings.is_empty() {
            members.insert("warnings".to_owned(), json!(warnings));
        }
    }
    json!({"apiVersion": version, "kind": KIND, "response": response})
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(content_type: &str, body: &str) -> Request {
        Request::builder()
            .header(header::CONTENT_TYPE, content_type)
            .body(Body::from(body.to_owned()))
            .unwrap()
    }

    #[tokio::test]
    async fn a_body_is_json_and_not_too_large() {
        let ok = body(request("application/json; charset=utf-8", "{}"), 2).await;
        assert_eq!(ok.unwrap(), "{}");
        for (kind, text, status) in [
            ("application/json", "", 400),
            ("application/json", "{ }", 413),
            ("text/plain", "{}", 415),
            ("", "{}", 415),
        ] {
            let refusal = body(request(kind, text), 2).await.unwrap_err();
            assert_eq!(refusal.0.as_u16(), status, "{kind} {text}: {}", refusal.1);
        }
    }

    #[test]
    fn versions_are_answered_as_they_ask() {
        let review = |version: &str| {
            let text = json!({"apiVersion": version, "kind": KIND, "request": {"uid": "u"}});
            Review::read(text.to_string().as_bytes())
        };
        for version in [VERSION, OLD_VERSION] {
            let review = review(version).unwrap();
            let answer = answer(
                review.version(),
                review.uid(),
                json!({"allowed": true}),
                &[],
            );
            let expected = json!({
                "apiVersion": version, "kind": KIND, "response": {"uid": "u", "allowed": true},
            });
            assert_eq!(answer, expected);
        }
        assert!(matches!(review("v1"), Err(ReadError::NoReview(text)) if text.contains("\"v1\"")));
        let text = json!({"apiVersion": VERSION, "kind": KIND, "request": 1}).to_string();
        let error = Review::read(text.as_bytes()).unwrap_err();
        assert_eq!(error, ReadError::NoRequest { version: VERSION });
    }
}
