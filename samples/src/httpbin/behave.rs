//! Endpoints that do what the path requests: statuses, delays, failures, redirects, authentication.

use super::Bin;
use axum::Json;
use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::json;
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

/// Maximum delay, in seconds.
const MAX_DELAY: f64 = 10.0;
/// Maximum number of redirects.
const MAX_REDIRECTS: u32 = 20;
/// Maximum number of keys of `/fail-first`; above it, all are forgotten.
pub(super) const MAX_KEYS: usize = 10_000;

fn bad(text: &str) -> Response {
    (StatusCode::BAD_REQUEST, format!("{text}\n")).into_response()
}

/// `/status/418`, or a random one by weight: `/status/200:9,503:1`.
pub(super) async fn status(Path(codes): Path<String>) -> Response {
    let mut choices = Vec::new();
    for part in codes.split(',') {
        let (code, weight) = part.split_once(':').unwrap_or((part, "1"));
        let code = code
            .trim()
            .parse()
            .ok()
            .and_then(|code: u16| StatusCode::from_u16(code).ok());
        match (code, weight.trim().parse::<f64>()) {
            (Some(code), Ok(weight))
                if code.as_u16() >= 200 && weight.is_finite() && weight >= 0.0 =>
            {
                choices.push((code, weight));
            }
            _ => return bad("want CODE or CODE:WEIGHT,…, with codes from 200 to 999"),
        }
    }
    let total: f64 = choices.iter().map(|(_, weight)| weight).sum();
    let mut at = rand::random::<f64>() * total;
    let chosen = choices.iter().find(|(_, weight)| {
        at -= weight;
        at <= 0.0
    });
    let code = chosen
        .or_else(|| choices.last())
        .map_or(StatusCode::OK, |(code, _)| *code);
    let mut response = code.into_response();
    if code.is_redirection() {
        response
            .headers_mut()
            .insert(header::LOCATION, HeaderValue::from_static("/redirect/1"));
    }
    response
}

/// Responds after at most ten seconds.
pub(super) async fn delay(Path(seconds): Path<String>) -> Response {
    match seconds.parse::<f64>() {
        Ok(seconds) if seconds.is_finite() && seconds >= 0.0 => {
            let seconds = seconds.min(MAX_DELAY);
            tokio::time::sleep(Duration::from_secs_f64(seconds)).await;
            Json(json!({"delay": seconds})).into_response()
        }
        _ => bad("want a delay in seconds, from 0 to 10"),
    }
}

/// 503 for the first `count` calls with this key, then 200: shows how often a caller retries.
pub(super) async fn fail_first(
    State(bin): State<Arc<Bin>>,
    Path((count, key)): Path<(u64, String)>,
) -> Response {
    let calls = {
        let mut keys = bin.calls.lock();
        if keys.len() >= MAX_KEYS && !keys.contains_key(&key) {
            keys.clear();
        }
        let calls = keys.entry(key).or_insert(0);
        *calls += 1;
        *calls
    };
    let status = if calls <= count {
        StatusCode::SERVICE_UNAVAILABLE
    } else {
        StatusCode::OK
    };
    (
        status,
        Json(json!({"calls": calls, "instance": bin.pod_name})),
    )
        .into_response()
}

pub(super) async fn redirect(Path(count): Path<u32>) -> Response {
    let target = match count.min(MAX_REDIRECTS) {
        0 | 1 => "/get".to_owned(),
        count => format!("/redirect/{}", count - 1),
    };
    (StatusCode::FOUND, [(header::LOCATION, target)]).into_response()
}

pub(super) async fn redirect_to(Query(query): Query<BTreeMap<String, String>>) -> Response {
    let status = query.get("status_code").and_then(|code| code.parse().ok());
    let status = status.and_then(|code: u16| StatusCode::from_u16(code).ok());
    let status = status
        .filter(StatusCode::is_redirection)
        .unwrap_or(StatusCode::FOUND);
    match query
        .get("url")
        .and_then(|url| HeaderValue::from_str(url).ok())
    {
        Some(url) => (status, [(header::LOCATION, url)]).into_response(),
        None => bad("the target is missing: want ?url=…"),
    }
}

fn unauthorized(challenge: &'static str) -> Response {
    (
        StatusCode::UNAUTHORIZED,
        [(header::WWW_AUTHENTICATE, challenge)],
    )
        .into_response()
}

fn credentials<'h>(headers: &'h HeaderMap, scheme: &str) -> Option<&'h str> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (given, rest) = value.split_once(' ')?;
    given.eq_ignore_ascii_case(scheme).then(|| rest.trim())
}

pub(super) async fn basic_auth(
    Path((user, password)): Path<(String, String)>,
    headers: HeaderMap,
) -> Response {
    let given = credentials(&headers, "basic").and_then(|text| STANDARD.decode(text).ok());
    if given.is_some_and(|given| given == format!("{user}:{password}").into_bytes()) {
        Json(json!({"authenticated": true, "user": user})).into_response()
    } else {
        unauthorized("Basic realm=\"httpbin\"")
    }
}

pub(super) async fn bearer(headers: HeaderMap) -> Response {
    match credentials(&headers, "bearer") {
        Some(token) => Json(json!({"authenticated": true, "token": token})).into_response(),
        None => unauthorized("Bearer"),
    }
}
