//! Endpoints with a given response: bodies of a type or size, streams, caching headers.

use super::Bin;
use axum::Json;
use axum::body::Body;
use axum::extract::{Path, Query, State};
use axum::response::{Html, IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE};
use bytes::Bytes;
use futures::StreamExt as _;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rand::Rng as _;
use serde_json::{Value, json};
use std::collections::BTreeMap;
use std::convert::Infallible;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

/// Maximum size of `/bytes`.
const MAX_BYTES: usize = 100 * 1024;
/// Maximum number of lines of `/stream`.
const MAX_LINES: u32 = 100;
/// Maximum duration of `/drip`, in seconds.
const MAX_DRIP: f64 = 10.0;

pub(super) async fn response_headers(Query(pairs): Query<Vec<(String, String)>>) -> Response {
    let shown: BTreeMap<&str, &str> = pairs
        .iter()
        .map(|(name, value)| (name.as_str(), value.as_str()))
        .collect();
    let mut response = Json(json!(shown)).into_response();
    for (name, value) in &pairs {
        match (
            HeaderName::try_from(name.as_str()),
            HeaderValue::from_str(value),
        ) {
            (Ok(name), Ok(value)) => {
                response.headers_mut().append(name, value);
            }
            _ => return (StatusCode::BAD_REQUEST, "not a valid header").into_response(),
        }
    }
    response
}

pub(super) async fn bytes(Path(count): Path<usize>) -> Response {
    let mut body = vec![0; count.min(MAX_BYTES)];
    rand::rng().fill_bytes(&mut body);
    ([(header::CONTENT_TYPE, "application/octet-stream")], body).into_response()
}

pub(super) async fn stream(Path(count): Path<u32>) -> Response {
    let lines = futures::stream::iter(0..count.min(MAX_LINES))
        .map(|id| Ok::<_, Infallible>(Bytes::from(format!("{}\n", json!({"id": id})))));
    (
        [(header::CONTENT_TYPE, "application/json")],
        Body::from_stream(lines),
    )
        .into_response()
}

/// `numbytes` (10) bytes spread over `duration` (2) seconds, after `delay` (0) seconds, status `code`.
pub(super) async fn drip(Query(query): Query<BTreeMap<String, String>>) -> Response {
    let seconds = |key: &str, default: f64| {
        let given = query.get(key).and_then(|text| text.parse::<f64>().ok());
        given
            .filter(|s| s.is_finite() && *s >= 0.0)
            .unwrap_or(default)
            .min(MAX_DRIP)
    };
    let count: u32 = query
        .get("numbytes")
        .and_then(|n| n.parse().ok())
        .unwrap_or(10)
        .min(10_000);
    let code = query.get("code").and_then(|code| code.parse::<u16>().ok());
    let code = code
        .and_then(|code| StatusCode::from_u16(code).ok())
        .unwrap_or(StatusCode::OK);
    tokio::time::sleep(Duration::from_secs_f64(seconds("delay", 0.0))).await;
    let pause = Duration::from_secs_f64(seconds("duration", 2.0)) / count.max(1);
    let drops = futures::stream::iter(0..count).then(move |_| async move {
        tokio::time::sleep(pause).await;
        Ok::<_, Infallible>(Bytes::from_static(b"*"))
    });
    let headers = [
        (
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/octet-stream"),
        ),
        (header::CONTENT_LENGTH, HeaderValue::from(count)),
    ];
    (code, headers, Body::from_stream(drops)).into_response()
}

pub(super) async fn cache(headers: HeaderMap) -> Response {
    let conditional = headers.contains_key(header::IF_MODIFIED_SINCE)
        || headers.contains_key(header::IF_NONE_MATCH);
    if conditional {
        return StatusCode::NOT_MODIFIED.into_response();
    }
    let validators = [
        (header::LAST_MODIFIED, "Thu, 01 Jan 2026 00:00:00 GMT"),
        (header::ETAG, "\"unchanged\""),
    ];
    (validators, Json(json!({"cached": false}))).into_response()
}

pub(super) async fn etag(Path(etag): Path<String>, headers: HeaderMap) -> Response {
    let lists = |name: HeaderName| {
        headers
            .get(name)
            .and_then(|value| value.to_str().ok())
            .map(|list| {
                list.split(',')
                    .any(|one| matches!(one.trim().trim_matches('"'), t if t == etag || t == "*"))
            })
    };
    let status = if lists(header::IF_NONE_MATCH) == Some(true) {
        StatusCode::NOT_MODIFIED
    } else if lists(header::IF_MATCH) == Some(false) {
        StatusCode::PRECONDITION_FAILED
    } else {
        StatusCode::OK
    };
    let quoted = HeaderValue::from_str(&format!("\"{etag}\""));
    match quoted {
        Ok(quoted) => (status, [(header::ETAG, quoted)]).into_response(),
        Err(_) => (StatusCode::BAD_REQUEST, "not a valid ETag").into_response(),
    }
}

pub(super) async fn base64(Path(value): Path<String>) -> Response {
    match STANDARD.decode(&value).or_else(|_| URL_SAFE.decode(&value)) {
        Ok(bytes) => bytes.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("not base64: {error}\n")).into_response(),
    }
}

pub(super) async fn uuid() -> Json<Value> {
    let id = u128::from_be_bytes(rand::random());
    // Version 4, variant 1 (RFC 9562).
    let id = (id & !(0xf << 76) | (4 << 76)) & !(0b11 << 62) | (0b10 << 62);
    let hex = format!("{id:032x}");
    let part = |from: usize, to: usize| hex.get(from..to).unwrap_or_default().to_owned();
    let text = [
        part(0, 8),
        part(8, 12),
        part(12, 16),
        part(16, 20),
        part(20, 32),
    ]
    .join("-");
    Json(json!({"uuid": text}))
}

pub(super) async fn json() -> Json<Value> {
    Json(
        json!({"slideshow": {"title": "Sample", "author": "httpbin", "slides": [
        {"type": "all", "title": "One thing"}, {"type": "all", "title": "Another thing"}]}}),
    )
}

pub(super) async fn html() -> Html<&'static str> {
    Html(
        "<!DOCTYPE html>\n<html><head><title>Sample</title></head><body><h1>Sample</h1><p>Some text.</p></body></html>\n",
    )
}

pub(super) async fn xml() -> Response {
    let text = "<?xml version=\"1.0\"?>\n<slideshow title=\"Sample\"><slide><title>One thing</title></slide></slideshow>\n";
    ([(header::CONTENT_TYPE, "application/xml")], text).into_response()
}

pub(super) async fn robots() -> &'static str {
    "User-agent: *\nDisallow: /deny\n"
}

pub(super) async fn hostname(State(bin): State<Arc<Bin>>) -> Json<Value> {
    Json(json!({"hostname": bin.pod_name}))
}

/// Number of requests to this instance, except for `/health` and this endpoint.
pub(super) async fn request_count(State(bin): State<Arc<Bin>>) -> Json<Value> {
    Json(json!({"hostname": bin.pod_name, "requests": bin.requests.load(Ordering::Relaxed)}))
}
