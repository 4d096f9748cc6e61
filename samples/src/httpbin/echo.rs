//! Endpoints that echo the request.

use axum::Json;
use axum::body::Bytes;
use axum::extract::{ConnectInfo, Query};
use axum::response::{IntoResponse, Response};
use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, Version, header};
use serde_json::{Map, Value, json};
use std::net::SocketAddr;

type Peer = Option<axum::Extension<ConnectInfo<SocketAddr>>>;
type Pairs = Query<Vec<(String, String)>>;

/// `accept-encoding` → `Accept-Encoding`.
fn canonical(name: &str) -> String {
    name.split('-')
        .map(|part| {
            let mut chars = part.chars();
            chars.next().map_or_else(String::new, |first| {
                first.to_ascii_uppercase().to_string() + chars.as_str()
            })
        })
        .collect::<Vec<_>>()
        .join("-")
}

/// All headers with names in canonical case; repeated ones are joined with commas.
fn header_map(headers: &HeaderMap) -> Value {
    let map: Map<String, Value> = headers
        .keys()
        .map(|name| {
            let values: Vec<_> = headers
                .get_all(name)
                .iter()
                .map(|value| String::from_utf8_lossy(value.as_bytes()).into_owned())
                .collect();
            (canonical(name.as_str()), Value::from(values.join(",")))
        })
        .collect();
    Value::Object(map)
}

/// Pairs as an object; a repeated key becomes a list.
fn pair_map(pairs: &[(String, String)]) -> Value {
    let mut map = Map::new();
    for (key, value) in pairs {
        let value = Value::from(value.as_str());
        match map.get_mut(key) {
            None => {
                map.insert(key.clone(), value);
            }
            Some(Value::Array(list)) => list.push(value),
            Some(first) => *first = Value::Array(vec![first.take(), value]),
        }
    }
    Value::Object(map)
}

fn origin(headers: &HeaderMap, peer: &Peer) -> String {
    let forwarded = headers
        .get("x-forwarded-for")
        .and_then(|value| value.to_str().ok());
    match (forwarded, peer) {
        (Some(list), _) => list.to_owned(),
        (None, Some(peer)) => peer.0.0.ip().to_canonical().to_string(),
        (None, None) => String::new(),
    }
}

fn url(headers: &HeaderMap, uri: &Uri) -> String {
    let get = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let scheme = get("x-forwarded-proto").unwrap_or("http");
    let host = get("host")
        .or_else(|| uri.authority().map(|a| a.as_str()))
        .unwrap_or_default();
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    format!("{scheme}://{host}{path}")
}

pub(super) async fn show(
    uri: Uri,
    headers: HeaderMap,
    Query(args): Pairs,
    peer: Peer,
) -> Json<Value> {
    Json(json!({
        "args": pair_map(&args),
        "headers": header_map(&headers),
        "origin": origin(&headers, &peer),
        "url": url(&headers, &uri),
    }))
}

fn with_body(
    uri: &Uri,
    headers: &HeaderMap,
    args: &[(String, String)],
    peer: &Peer,
    body: &[u8],
) -> Map<String, Value> {
    let kind = headers
        .get(header::CONTENT_TYPE)
        .and_then(|v| v.to_str().ok())
        .unwrap_or_default();
    let is_form = kind.starts_with("application/x-www-form-urlencoded");
    let form = if is_form {
        let query = format!("/?{}", String::from_utf8_lossy(body));
        query
            .parse::<Uri>()
            .ok()
            .and_then(|uri| Query::<Vec<(String, String)>>::try_from_uri(&uri).ok())
            .map(|Query(pairs)| pair_map(&pairs))
    } else {
        None
    };
    let data = if form.is_some() {
        String::new()
    } else {
        String::from_utf8_lossy(body).into_owned()
    };
    let mut map = Map::new();
    map.insert("args".to_owned(), pair_map(args));
    map.insert("data".to_owned(), Value::from(data));
    map.insert("files".to_owned(), json!({}));
    map.insert("form".to_owned(), form.unwrap_or_else(|| json!({})));
    map.insert("headers".to_owned(), header_map(headers));
    map.insert(
        "json".to_owned(),
        serde_json::from_slice(body).unwrap_or(Value::Null),
    );
    map.insert("origin".to_owned(), Value::from(origin(headers, peer)));
    map.insert("url".to_owned(), Value::from(url(headers, uri)));
    map
}

pub(super) async fn show_with_body(
    uri: Uri,
    headers: HeaderMap,
    Query(args): Pairs,
    peer: Peer,
    body: Bytes,
) -> Json<Value> {
    Json(Value::Object(with_body(
        &uri, &headers, &args, &peer, &body,
    )))
}

pub(super) async fn anything(
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    Query(args): Pairs,
    peer: Peer,
    body: Bytes,
) -> Json<Value> {
    let mut map = with_body(&uri, &headers, &args, &peer, &body);
    map.insert("method".to_owned(), Value::from(method.as_str()));
    Json(Value::Object(map))
}

pub(super) async fn headers(headers: HeaderMap) -> Json<Value> {
    Json(json!({"headers": header_map(&headers)}))
}

pub(super) async fn ip(headers: HeaderMap, peer: Peer) -> Json<Value> {
    Json(json!({"origin": origin(&headers, &peer)}))
}

pub(super) async fn user_agent(headers: HeaderMap) -> Json<Value> {
    let agent = headers
        .get(header::USER_AGENT)
        .and_then(|value| value.to_str().ok());
    Json(json!({"user-agent": agent}))
}

pub(super) async fn cookies(headers: HeaderMap) -> Json<Value> {
    let cookies: Vec<(String, String)> = headers
        .get_all(header::COOKIE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(';'))
        .filter_map(|pair| pair.trim().split_once('='))
        .map(|(name, value)| (name.to_owned(), value.to_owned()))
        .collect();
    Json(json!({"cookies": pair_map(&cookies)}))
}

pub(super) async fn set_cookies(Query(pairs): Pairs) -> Response {
    let mut response = (StatusCode::FOUND, [(header::LOCATION, "/cookies")]).into_response();
    for (name, value) in pairs {
        let Ok(cookie) = HeaderValue::from_str(&format!("{name}={value}; Path=/")) else {
            return (StatusCode::BAD_REQUEST, "not a valid cookie").into_response();
        };
        response.headers_mut().append(header::SET_COOKIE, cookie);
    }
    response
}

/// The request as text, as in HTTP/1.1.
pub(super) async fn dump(
    method: Method,
    uri: Uri,
    version: Version,
    headers: HeaderMap,
    body: Bytes,
) -> Vec<u8> {
    let path = uri.path_and_query().map_or("/", |path| path.as_str());
    let mut text = format!("{method} {path} {version:?}\r\n").into_bytes();
    for (name, value) in &headers {
        text.extend_from_slice(canonical(name.as_str()).as_bytes());
        text.extend_from_slice(b": ");
        text.extend_from_slice(value.as_bytes());
        text.extend_from_slice(b"\r\n");
    }
    text.extend_from_slice(b"\r\n");
    text.extend_from_slice(&body);
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn header_names_get_canonical_case_and_values_join() {
        let mut headers = HeaderMap::new();
        headers.append("x-b3-traceid", "1".parse().unwrap());
        headers.append("accept", "a".parse().unwrap());
        headers.append("accept", "b".parse().unwrap());
        assert_eq!(
            header_map(&headers),
            json!({"X-B3-Traceid": "1", "Accept": "a,b"})
        );
    }

    #[test]
    fn repeated_query_keys_become_a_list() {
        let pairs = [("a", "1"), ("b", "2"), ("a", "3")].map(|(k, v)| (k.to_owned(), v.to_owned()));
        assert_eq!(pair_map(&pairs), json!({"a": ["1", "3"], "b": "2"}));
    }
}
