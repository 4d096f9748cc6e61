//! The page for browsers, and its data as JSON.

use super::part::Part;
use super::session::Sessions;
use super::{base_url, object, page};
use crate::context::{Caller, forwarded};
use crate::server::{self, Listen};
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::Duration;

/// Timeout of a call to another service.
const CALL_TIMEOUT: Duration = Duration::from_secs(3);
/// Attempts to get reviews. Together with the longer timeout of reviews, two attempts of three
/// seconds are the deliberate flaw that the fault-injection task uncovers.
const REVIEW_TRIES: usize = 2;
/// Maximum of `FLOOD_FACTOR`.
const MAX_FLOOD: usize = 100;

/// Settings of productpage.
#[derive(Clone, Debug, clap::Args)]
pub struct Args {
    #[command(flatten)]
    pub listen: Listen,
    /// Domain suffix of the names of other services
    #[arg(long, env = "SERVICES_DOMAIN", default_value = "")]
    pub services_domain: String,
    /// Host name of details
    #[arg(long, env = "DETAILS_HOSTNAME", default_value = "details")]
    pub details_hostname: String,
    /// Port of details
    #[arg(long, env = "DETAILS_SERVICE_PORT", default_value_t = 9080)]
    pub details_port: u16,
    /// Host name of reviews
    #[arg(long, env = "REVIEWS_HOSTNAME", default_value = "reviews")]
    pub reviews_hostname: String,
    /// Port of reviews
    #[arg(long, env = "REVIEWS_SERVICE_PORT", default_value_t = 9080)]
    pub reviews_port: u16,
    /// Host name of ratings
    #[arg(long, env = "RATINGS_HOSTNAME", default_value = "ratings")]
    pub ratings_hostname: String,
    /// Port of ratings
    #[arg(long, env = "RATINGS_SERVICE_PORT", default_value_t = 9080)]
    pub ratings_port: u16,
    /// Additional calls to reviews per page whose responses are ignored (0-100)
    #[arg(long, env = "FLOOD_FACTOR", default_value_t = 0)]
    pub flood_factor: usize,
}

struct Shop {
    args: Args,
    details: String,
    reviews: String,
    ratings: String,
    caller: Caller,
    sessions: Sessions,
}

/// The page, sign-in, the JSON API under `/api/v1`, `/static`, `/health`.
pub fn router(args: Args) -> Router {
    let domain = &args.services_domain;
    let state = Arc::new(Shop {
        details: base_url(&args.details_hostname, domain, args.details_port),
        reviews: base_url(&args.reviews_hostname, domain, args.reviews_port),
        ratings: base_url(&args.ratings_hostname, domain, args.ratings_port),
        caller: Caller::default(),
        sessions: Sessions::new(),
        args,
    });
    Router::new()
        .route("/", get(index))
        .route("/index.html", get(index))
        .route("/health", get(|| async { server::health("Product page") }))
        .route("/productpage", get(product))
        .route("/login", post(login))
        .route("/logout", get(logout))
        .route("/api/v1/products", get(|| async { Json(products()) }))
        .route("/api/v1/products/{id}", get(api_details))
        .route("/api/v1/products/{id}/reviews", get(api_reviews))
        .route("/api/v1/products/{id}/ratings", get(api_ratings))
        .route("/static/style.css", get(style))
        .with_state(state)
}

fn products() -> Value {
    json!([{
        "id": 0,
        "title": page::TITLE,
        "descriptionHtml": page::DESCRIPTION,
    }])
}

async fn index(State(shop): State<Arc<Shop>>) -> Html<String> {
    Html(page::index(&[
        ("details", &shop.details),
        ("reviews", &shop.reviews),
        ("ratings", &shop.ratings),
    ]))
}

async fn style() -> Response {
    let headers = [
        (header::CONTENT_TYPE, "text/css; charset=utf-8"),
        (header::CACHE_CONTROL, "public, max-age=3600"),
    ];
    (headers, include_str!("style.css")).into_response()
}

async fn product(State(shop): State<Arc<Shop>>, headers: HeaderMap) -> Response {
    let user = shop.sessions.user(&headers);
    let outgoing = shop.outgoing(&headers, user.as_deref());
    for _ in 0..shop.args.flood_factor.min(MAX_FLOOD) {
        let (shop, outgoing) = (Arc::clone(&shop), outgoing.clone());
        tokio::spawn(async move {
            let url = format!("{}/reviews/0", shop.reviews);
            if let Err(error) = shop.caller.get(&url, outgoing, CALL_TIMEOUT).await {
                tracing::debug!("flood request failed: {error:#}");
            }
        });
    }
    let (details, reviews) = tokio::join!(
        shop.fetch("details", &shop.details, "0", &outgoing),
        shop.fetch_reviews("0", &outgoing)
    );
    Html(page::product(
        user.as_deref(),
        &shop.args.listen.pod_name,
        &details,
        &reviews,
    ))
    .into_response()
}

async fn login(State(shop): State<Arc<Shop>>, headers: HeaderMap, body: String) -> Response {
    let user = form_field(&body, "username").unwrap_or_default();
    let Some(cookie) = shop.sessions.sign_in(user.trim()) else {
        let text = "a user name has 1 to 64 printable ASCII characters";
        return (StatusCode::BAD_REQUEST, text).into_response();
    };
    back_to_page(&headers, &cookie)
}

async fn logout(headers: HeaderMap) -> Response {
    back_to_page(&headers, &Sessions::sign_out())
}

/// Redirects to the page of this shop that the visitor came from. Only the path of `Referer` is
/// used, so that other sites cannot choose the target.
fn back_to_page(headers: &HeaderMap, cookie: &str) -> Response {
    let target = headers
        .get(header::REFERER)
        .and_then(|value| value.to_str().ok())
        .and_then(|value| value.parse::<http::Uri>().ok())
        .map(|uri| uri.path().to_owned())
        .filter(|path| path == "/productpage" || path == "/")
        .unwrap_or_else(|| "/productpage".to_owned());
    let mut response = StatusCode::FOUND.into_response();
    for (name, value) in [
        (header::LOCATION, target.as_str()),
        (header::SET_COOKIE, cookie),
    ] {
        if let Ok(value) = HeaderValue::from_str(value) {
            response.headers_mut().insert(name, value);
        }
    }
    response
}

async fn api_details(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let outgoing = shop.outgoing(&headers, shop.sessions.user(&headers).as_deref());
    shop.fetch("details", &shop.details, &id, &outgoing)
        .await
        .into_response()
}

async fn api_reviews(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let outgoing = shop.outgoing(&headers, shop.sessions.user(&headers).as_deref());
    shop.fetch_reviews(&id, &outgoing).await.into_response()
}

async fn api_ratings(
    State(shop): State<Arc<Shop>>,
    Path(id): Path<String>,
    headers: HeaderMap,
) -> Response {
    let outgoing = shop.outgoing(&headers, shop.sessions.user(&headers).as_deref());
    shop.fetch("ratings", &shop.ratings, &id, &outgoing)
        .await
        .into_response()
}

impl Shop {
    fn outgoing(&self, incoming: &HeaderMap, user: Option<&str>) -> HeaderMap {
        let mut headers = forwarded(incoming);
        if let Some(value) = user.and_then(|user| HeaderValue::from_str(user).ok()) {
            headers.insert("end-user", value);
        }
        headers
    }

    async fn fetch_reviews(&self, id: &str, headers: &HeaderMap) -> Part {
        let mut part = self.fetch("reviews", &self.reviews, id, headers).await;
        for _ in 1..REVIEW_TRIES {
            if part.status == StatusCode::OK {
                break;
            }
            part = self.fetch("reviews", &self.reviews, id, headers).await;
        }
        part
    }

    async fn fetch(&self, what: &str, base: &str, id: &str, headers: &HeaderMap) -> Part {
        let unavailable = |status| Part {
            status,
            body: json!({"error": format!("Sorry, product {what} are currently unavailable for this book.")}),
        };
        if id.is_empty() || !id.bytes().all(|b| b.is_ascii_alphanumeric()) {
            return Part {
                status: StatusCode::BAD_REQUEST,
                body: json!({"error": "please provide numeric product ID"}),
            };
        }
        let url = format!("{base}/{what}/{id}");
        match self.caller.get(&url, headers.clone(), CALL_TIMEOUT).await {
            Ok((StatusCode::OK, body)) => match object(&body) {
                Some(body) => Part {
                    status: StatusCode::OK,
                    body,
                },
                None => unavailable(StatusCode::INTERNAL_SERVER_ERROR),
            },
            Ok((status, _)) => unavailable(status),
            Err(error) => {
                tracing::warn!("{error:#}");
                unavailable(StatusCode::INTERNAL_SERVER_ERROR)
            }
        }
    }
}

/// Value of one field of an `application/x-www-form-urlencoded` body.
fn form_field(body: &str, name: &str) -> Option<String> {
    body.split('&').find_map(|pair| {
        let (key, value) = pair.split_once('=')?;
        (key == name).then(|| percent_decoded(value))
    })
}

fn percent_decoded(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        let code = tail.get(..2).and_then(|two| std::str::from_utf8(two).ok());
        match (first, code.and_then(|two| u8::from_str_radix(two, 16).ok())) {
            (b'%', Some(byte)) => {
                bytes.push(byte);
                rest = tail.get(2..).unwrap_or_default();
            }
            (b'+', _) => {
                bytes.push(b' ');
                rest = tail;
            }
            _ => {
                bytes.push(first);
                rest = tail;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn form_fields_are_decoded() {
        assert_eq!(
            form_field("a=1&username=J+%41%2", "username").as_deref(),
            Some("J A%2")
        );
        assert_eq!(form_field("a=1", "username"), None);
    }

    #[test]
    fn sign_in_leads_back_to_own_pages_only() {
        let mut headers = HeaderMap::new();
        headers.insert(header::REFERER, "http://shop.example/".parse().unwrap());
        assert_eq!(
            back_to_page(&headers, "c=1").headers()[header::LOCATION],
            "/"
        );
        headers.insert(
            header::REFERER,
            "http://evil.example//evil".parse().unwrap(),
        );
        assert_eq!(
            back_to_page(&headers, "c=1").headers()[header::LOCATION],
            "/productpage"
        );
    }
}
