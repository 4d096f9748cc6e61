//! The applications over real sockets on the loopback interface, without a mesh.

#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    reason = "test helpers may panic"
)]

use axum::Router;
use clap::Parser;
use http::Method;
use samples::client::{Client, Target};
use samples::server::Instance;
use samples::{bookinfo, cli, httpbin, load, server, tcp_echo};
use serde_json::Value;
use std::time::{Duration, Instant};
use tokio::net::TcpListener;
use tokio::sync::oneshot;

fn instance(pod_name: &str) -> Instance {
    Instance {
        pod_name: pod_name.to_owned(),
        service_version: "v1".to_owned(),
        shutdown_delay: 0,
    }
}

async fn start(pod_name: &str, app: Router) -> (u16, oneshot::Sender<()>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let (stop_tx, stop_rx) = oneshot::channel();
    let instance = instance(pod_name);
    tokio::spawn(async move {
        server::serve(listener, &instance, app, async {
            let _stopped_or_dropped = stop_rx.await;
        })
        .await
        .unwrap();
    });
    (port, stop_tx)
}

fn target(port: u16, path: &str, headers: &[(&'static str, &str)]) -> Target {
    Target {
        url: format!("http://127.0.0.1:{port}{path}").parse().unwrap(),
        method: Method::GET,
        headers: headers
            .iter()
            .map(|(n, v)| (n.parse().unwrap(), v.parse().unwrap()))
            .collect(),
        data: String::new(),
        connect_to: None,
        timeout: Duration::from_secs(20),
    }
}

async fn get(
    port: u16,
    path: &str,
    headers: &[(&'static str, &str)],
) -> (u16, String, http::HeaderMap) {
    let answer = Client::new(&target(port, path, headers), false)
        .unwrap()
        .send()
        .await
        .unwrap();
    (
        answer.status,
        String::from_utf8(answer.body.to_vec()).unwrap(),
        answer.headers,
    )
}

#[derive(Parser)]
struct Reviews {
    #[command(flatten)]
    args: bookinfo::reviews::Args,
}

#[derive(Parser)]
struct Productpage {
    #[command(flatten)]
    args: bookinfo::productpage::Args,
}

fn reviews(ratings: u16, color: Option<&str>) -> Router {
    let enable = color.is_some().to_string();
    let ratings = ratings.to_string();
    let line = [
        "reviews",
        "--pod-name",
        "reviews-x",
        "--enable-ratings",
        &enable,
        "--star-color",
        color.unwrap_or("black"),
        "--ratings-hostname",
        "127.0.0.1",
        "--ratings-port",
        &ratings,
    ];
    bookinfo::reviews::router(Reviews::parse_from(line).args)
}

fn productpage(details: u16, reviews: u16, ratings: u16) -> Router {
    let (details, reviews, ratings) = (
        details.to_string(),
        reviews.to_string(),
        ratings.to_string(),
    );
    let line = [
        "productpage",
        "--pod-name",
        "page",
        "--details-hostname",
        "127.0.0.1",
        "--details-port",
        &details,
        "--reviews-hostname",
        "127.0.0.1",
        "--reviews-port",
        &reviews,
        "--ratings-hostname",
        "127.0.0.1",
        "--ratings-port",
        &ratings,
    ];
    bookinfo::productpage::router(Productpage::parse_from(line).args)
}

#[tokio::test]
async fn page_shows_stars_of_the_reviews_version() {
    let (details, _d) = start("details", bookinfo::details::router()).await;
    let (ratings, _r) = start("ratings", bookinfo::ratings::router()).await;
    for (color, stars) in [(None, 0), (Some("black"), 9), (Some("red"), 9)] {
        let (reviews, _v) = start("reviews-x", reviews(ratings, color)).await;
        let (page, _p) = start("page", productpage(details, reviews, ratings)).await;
        let (status, html, headers) = get(page, "/productpage", &[]).await;
        assert_eq!(status, 200);
        assert_eq!(html.matches("glyphicon-star").count(), stars, "{color:?}");
        assert!(html.contains("reviews-x") && html.contains("William Shakespeare"));
        assert!(color.is_none_or(|color| html.contains(&format!("color:{color}"))));
        assert_eq!(headers["x-served-by"], "page");
        let (status, body, _) = get(page, "/api/v1/products/0/ratings", &[]).await;
        assert_eq!(
            (status, body.as_str()),
            (200, r#"{"id":0,"ratings":{"Reviewer1":5,"Reviewer2":4}}"#)
        );
    }
}

#[tokio::test]
async fn page_stays_up_when_the_others_are_down() {
    let (page, _p) = start("page", productpage(1, 1, 1)).await;
    let (status, html, _) = get(page, "/productpage", &[]).await;
    assert_eq!(status, 200);
    assert!(html.contains("Error fetching product details"));
    assert!(html.contains("Error fetching product reviews"));
    let (status, body, _) = get(page, "/api/v1/products/0", &[]).await;
    assert_eq!(status, 500);
    assert!(body.contains("product details") && body.contains("currently unavailable"));
}

#[tokio::test]
async fn reviews_say_when_ratings_fail() {
    let (reviews, _v) = start("reviews-x", reviews(1, Some("red"))).await;
    let (status, body, _) = get(reviews, "/reviews/0", &[]).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(status, 200);
    assert_eq!(
        body["reviews"][0]["rating"]["error"],
        "Ratings service is currently unavailable"
    );
}

#[tokio::test]
async fn signed_in_user_is_sent_along_with_trace_headers() {
    let (bin, _b) = start(
        "bin",
        Router::new().route(
            "/reviews/0",
            axum::routing::get(|headers: http::HeaderMap| async move {
                let get = |name: &str| headers.get(name).map(|v| v.to_str().unwrap().to_owned());
                axum::Json(
                    serde_json::json!({"user": get("end-user"), "trace": get("x-b3-traceid")}),
                )
            }),
        ),
    )
    .await;
    let (page, _p) = start("page", productpage(1, bin, 1)).await;
    let mut login = target(
        page,
        "/login",
        &[("content-type", "application/x-www-form-urlencoded")],
    );
    login.method = Method::POST;
    login.data = "username=jason&passwd=".to_owned();
    let answer = Client::new(&login, false).unwrap().send().await.unwrap();
    assert_eq!(answer.status, 302);
    assert_eq!(answer.headers["location"], "/productpage");
    let cookie = answer.headers["set-cookie"]
        .to_str()
        .unwrap()
        .split(';')
        .next()
        .unwrap()
        .to_owned();
    let headers = [("cookie", cookie.as_str()), ("x-b3-traceid", "abc")];
    let (_, body, _) = get(page, "/api/v1/products/0/reviews", &headers).await;
    assert_eq!(body, r#"{"trace":"abc","user":"jason"}"#);
    let (_, html, _) = get(page, "/productpage", &headers).await;
    assert!(html.contains("jason") && html.contains("Sign out"));
}

#[tokio::test]
async fn httpbin_answers_as_told() {
    let (bin, _b) = start("bin-1", httpbin::router("bin-1")).await;
    for (path, status) in [
        ("/status/418", 418),
        ("/status/abc", 400),
        ("/status/503:1,200:0", 503),
        ("/delay/0.01", 200),
        ("/delay/-1", 400),
        ("/redirect/2", 302),
        ("/redirect-to", 400),
        ("/redirect-to?url=/x&status_code=307", 307),
        ("/basic-auth/u/p", 401),
        ("/bearer", 401),
        ("/uuid", 200),
        ("/json", 200),
        ("/xml", 200),
        ("/html", 200),
        ("/robots.txt", 200),
        ("/cache", 200),
        ("/etag/x", 200),
        ("/base64/aGk=", 200),
        ("/base64/%25", 400),
        ("/cookies/set?a=b", 302),
        ("/drip?numbytes=2&duration=0", 200),
        ("/stream/3", 200),
        ("/health", 200),
        ("/nope", 404),
    ] {
        assert_eq!(get(bin, path, &[]).await.0, status, "{path}");
    }
    assert_eq!(
        get(bin, "/basic-auth/u/p", &[("authorization", "Basic dTpw")])
            .await
            .0,
        200
    );
    assert_eq!(get(bin, "/cache", &[("if-none-match", "x")]).await.0, 304);
    assert_eq!(get(bin, "/ip", &[]).await.1, r#"{"origin":"127.0.0.1"}"#);
    assert_eq!(
        get(bin, "/ip", &[("x-forwarded-for", "9.9.9.9, 1.1.1.1")])
            .await
            .1,
        r#"{"origin":"9.9.9.9, 1.1.1.1"}"#
    );
    let (_, body, _) = get(bin, "/anything/new/a?k=1&k=2", &[("x-one", "1")]).await;
    let body: Value = serde_json::from_str(&body).unwrap();
    assert_eq!(body["method"], "GET");
    assert_eq!(body["args"]["k"], serde_json::json!(["1", "2"]));
    assert_eq!(body["headers"]["X-One"], "1");
    assert_eq!(
        body["url"],
        format!("http://127.0.0.1:{bin}/anything/new/a?k=1&k=2")
    );
    let bytes = Client::new(&target(bin, "/bytes/1000", &[]), false)
        .unwrap()
        .send()
        .await
        .unwrap();
    assert_eq!(bytes.body.len(), 1000);
    let mut form = target(
        bin,
        "/post",
        &[("content-type", "application/x-www-form-urlencoded")],
    );
    form.method = Method::POST;
    form.data = "a=1&b=x+y".to_owned();
    let answer = Client::new(&form, false).unwrap().send().await.unwrap();
    let body: Value = serde_json::from_slice(&answer.body).unwrap();
    assert_eq!(body["form"], serde_json::json!({"a": "1", "b": "x y"}));
}

#[tokio::test]
async fn fail_first_counts_calls_of_each_key() {
    let (bin, _b) = start("bin-1", httpbin::router("bin-1")).await;
    for (path, status) in [
        ("/fail-first/2/a", 503),
        ("/fail-first/2/a", 503),
        ("/fail-first/2/b", 503),
        ("/fail-first/2/a", 200),
    ] {
        assert_eq!(get(bin, path, &[]).await.0, status);
    }
    assert_eq!(
        get(bin, "/request-count", &[]).await.1,
        r#"{"hostname":"bin-1","requests":4}"#
    );
}

#[derive(Parser)]
struct Load {
    #[command(flatten)]
    args: load::Args,
}

fn load_args(line: &[&str]) -> load::Args {
    Load::parse_from([&["load"], line].concat()).args
}

#[tokio::test]
async fn load_counts_statuses_and_keeps_connections() {
    let (bin, _b) = start("bin-1", httpbin::router("bin-1")).await;
    let url = format!("http://127.0.0.1:{bin}/status/200:1,503:1");
    let args = load_args(&[
        &url,
        "-n",
        "200",
        "-c",
        "4",
        "--count",
        "header:x-served-by",
    ]);
    let summary = load::generate(args.clone(), std::future::pending())
        .await
        .unwrap();
    assert_eq!(summary.requests, 200);
    assert_eq!(summary.status.values().sum::<u64>(), 200);
    assert_eq!(
        summary.status.keys().copied().collect::<Vec<_>>(),
        [200, 503]
    );
    assert_eq!(summary.counts["bin-1"], 200);
    assert_eq!((summary.connections, summary.failed), (4, 0));
    assert_eq!(summary.errors.len(), 20);
    let told: Vec<_> = summary.errors.iter().map(|e| e.what.as_str()).collect();
    assert!(told.iter().all(|e| e.starts_with("503")), "{told:?}");
    assert!(summary.errors.is_sorted_by_key(|e| &e.at));
    let mut args = args;
    args.no_keepalive = true;
    let summary = load::generate(args, std::future::pending()).await.unwrap();
    assert_eq!((summary.connections, summary.failed), (200, 0));
}

#[tokio::test]
async fn load_holds_its_rate_and_ends_in_time() {
    let (bin, _b) = start("bin-1", httpbin::router("bin-1")).await;
    let url = format!("http://127.0.0.1:{bin}/get");
    let args = load_args(&[&url, "-r", "100", "-t", "500ms", "-c", "2"]);
    let summary = load::generate(args, std::future::pending()).await.unwrap();
    assert_eq!(summary.requests, 50);
    assert!(summary.elapsed_s >= 0.45, "{}", summary.elapsed_s);
}

#[tokio::test]
async fn load_tells_failures_apart() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    drop(listener);
    let url = format!("http://127.0.0.1:{port}/");
    let summary = load::generate(load_args(&[&url, "-n", "3"]), std::future::pending())
        .await
        .unwrap();
    assert_eq!(summary.failures["connect"], 3);

    let (bin, _b) = start("bin-1", httpbin::router("bin-1")).await;
    let url = format!("http://127.0.0.1:{bin}/delay/5");
    let args = load_args(&[&url, "-n", "1", "--timeout", "50ms"]);
    let summary = load::generate(args, std::future::pending()).await.unwrap();
    assert_eq!(summary.failures["timeout"], 1);

    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            drop(stream);
        }
    });
    let summary = load::generate(load_args(&[&url, "-n", "2"]), std::future::pending())
        .await
        .unwrap();
    assert_eq!(summary.failures["closed"], 2);
}

#[tokio::test]
async fn tcp_echo_prefixes_lines_and_load_counts_them() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("tcp://{}", listener.local_addr().unwrap());
    let (stop_tx, stop_rx) = oneshot::channel::<()>();
    let server = tokio::spawn(async move {
        tcp_echo::serve(vec![listener], "two", async {
            let _stopped = stop_rx.await;
        })
        .await
    });
    let args = load_args(&[
        &url, "--tcp", "-n", "20", "-c", "3", "-d", "hello", "--count", "body",
    ]);
    let summary = load::generate(args, std::future::pending()).await.unwrap();
    assert_eq!(
        (summary.counts["two"], summary.failed, summary.connections),
        (20, 0, 20)
    );
    stop_tx.send(()).unwrap();
    server.await.unwrap().unwrap();
}

#[tokio::test]
async fn server_finishes_what_it_began_and_ends_within_a_second() {
    let (bin, stop) = start("bin-1", httpbin::router("bin-1")).await;
    let slow = tokio::spawn(async move { get(bin, "/drip?numbytes=1&duration=0.3", &[]).await.0 });
    // The request is in progress once the server has counted it.
    while get(bin, "/request-count", &[]).await.1.contains(":0") {
        tokio::task::yield_now().await;
    }
    let begun = Instant::now();
    stop.send(()).unwrap();
    assert_eq!(slow.await.unwrap(), 200);
    assert!(begun.elapsed() < Duration::from_secs(1));
}

#[test]
fn command_line_refuses_what_makes_no_sense() {
    for line in [
        &["samples", "nope"][..],
        &["samples", "load"],
        &["samples", "load", "http://x", "--count", "x"],
        &["samples", "request", "http://x", "-H", "bad"],
    ] {
        assert!(cli::Args::try_parse_from(line).is_err(), "{line:?}");
    }
}
