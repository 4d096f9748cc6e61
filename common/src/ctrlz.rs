//! ControlZ of 1.1: introspection pages for people and scripts on a loopback port, as JSON.
//!
//! They show log levels, environment, arguments, memory, process, version and metrics; a process
//! may add pages.

use std::collections::BTreeMap;
use std::net::SocketAddr;

use axum::extract::{Path, Request, State};
use axum::http::{StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, put};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use tokio::net::TcpListener;

use crate::admin::loopback_only;
use crate::args::MonitoringArgs;
use crate::metrics::Registry;
use crate::{drain, log, version};

/// Values of variables whose names contain one of these words are hidden.
const SECRET: [&str; 4] = ["TOKEN", "KEY", "SECRET", "PASS"];

/// Serves the pages until the process drains. As in 1.1, a port that cannot be opened is logged and
/// not fatal; port 0 disables the pages.
pub async fn serve(args: MonitoringArgs, registry: Registry, extra: Router, drain: drain::Watch) {
    if args.ctrlz_port == 0 {
        return;
    }
    let address = match args.ctrlz_address.as_str() {
        "*" => "0.0.0.0",
        address => address,
    };
    let listener = match TcpListener::bind((address, args.ctrlz_port)).await {
        Ok(listener) => listener,
        Err(error) => {
            let port = args.ctrlz_port;
            tracing::warn!("cannot serve introspection at {address}:{port}: {error}");
            return;
        }
    };
    let mut pages = pages(registry).merge(extra);
    if args.ctrlz_address != "*" {
        pages = loopback_only(pages);
    }
    let service = pages.into_make_service_with_connect_info::<SocketAddr>();
    let served = axum::serve(listener, service)
        .with_graceful_shutdown(drain.signaled())
        .await;
    if let Err(error) = served {
        tracing::warn!("serving introspection failed: {error}");
    }
}

/// Pages of every process.
fn pages(registry: Registry) -> Router {
    Router::new()
        .route("/scopej/", get(scopes))
        .route("/scopej/{scope}", get(scope).put(set_scope))
        .route("/memj/", get(memory))
        .route(
            "/memj/forcecollection",
            put(|| async { StatusCode::ACCEPTED }),
        )
        .route("/envj/", get(environment))
        .route("/procj/", get(process))
        .route(
            "/argj/",
            get(|| async { Json(std::env::args().collect::<Vec<_>>()) }),
        )
        .route("/versionj/", get(|| async { Json(version::json()) }))
        .route("/metricj/", get(metrics))
        .with_state(registry)
        .layer(middleware::from_fn(with_slash))
}

/// Redirects `/memj` to `/memj/`, as in 1.1.
async fn with_slash(uri: Uri, request: Request, next: Next) -> Response {
    let response = next.run(request).await;
    let path = uri.path();
    if response.status() == StatusCode::NOT_FOUND && path.ends_with('j') {
        let location = [(header::LOCATION, format!("{path}/"))];
        return (StatusCode::MOVED_PERMANENTLY, location).into_response();
    }
    response
}

/// A log scope. Stack traces and callers are not supported, so that their fields are constant.
#[derive(Debug, Serialize, Deserialize)]
struct Scope {
    #[serde(default)]
    name: String,
    #[serde(default)]
    description: String,
    output_level: String,
    #[serde(default)]
    stack_trace_level: String,
    #[serde(default)]
    log_callers: bool,
}

impl Scope {
    fn new(name: &str, level: &str) -> Self {
        Self {
            name: name.to_owned(),
            description: String::new(),
            output_level: level.to_owned(),
            stack_trace_level: "none".to_owned(),
            log_callers: false,
        }
    }
}

/// Levels by scope: `default`, and the scopes with a level of their own.
fn levels(handle: &log::Handle) -> BTreeMap<String, String> {
    let levels = handle.levels();
    let pairs = levels.split(',').filter_map(|pair| pair.split_once(':'));
    pairs
        .map(|(scope, level)| (scope.to_owned(), level.to_owned()))
        .collect()
}

fn no_log() -> Response {
    (StatusCode::SERVICE_UNAVAILABLE, "logging is not set up\n").into_response()
}

async fn scopes() -> Response {
    let Some(handle) = log::handle() else {
        return no_log();
    };
    let scopes = levels(&handle);
    let scopes = scopes.iter().map(|(name, level)| Scope::new(name, level));
    Json(scopes.collect::<Vec<_>>()).into_response()
}

async fn scope(Path(name): Path<String>) -> Response {
    let Some(handle) = log::handle() else {
        return no_log();
    };
    let levels = levels(&handle);
    let level = levels.get(&name).or_else(|| levels.get("default"));
    Json(Scope::new(&name, level.map_or("info", String::as_str))).into_response()
}

async fn set_scope(Path(name): Path<String>, Json(wanted): Json<Scope>) -> Response {
    let Some(handle) = log::handle() else {
        return no_log();
    };
    let level = &wanted.output_level;
    if name.contains([',', ':']) || level.contains([',', ':']) {
        let text = "invalid request: want one scope and one level\n";
        return (StatusCode::BAD_REQUEST, text).into_response();
    }
    match handle.set_levels(&format!("{name}:{level}")) {
        Ok(()) => StatusCode::ACCEPTED.into_response(),
        Err(error) => (StatusCode::BAD_REQUEST, format!("{error:#}\n")).into_response(),
    }
}

async fn environment() -> Json<Vec<Value>> {
    // Names and values that are not UTF-8 are converted lossily.
    let mut variables: Vec<(String, String)> = std::env::vars_os()
        .map(|(name, value)| {
            let text = |text: &std::ffi::OsStr| text.to_string_lossy().into_owned();
            (text(&name), text(&value))
        })
        .collect();
    variables.sort();
    let shown = variables
        .iter()
        .map(|(name, value)| json!({"name": name, "value": shown(name, value)}));
    Json(shown.collect())
}

/// The value of a variable, unless its name suggests a secret.
fn shown<'a>(name: &str, value: &'a str) -> &'a str {
    let upper = name.to_uppercase();
    if SECRET.iter().any(|word| upper.contains(word)) {
        return "(not shown)";
    }
    value
}

/// The lines `Name: value` of a page in `/proc/self`.
fn proc_lines(page: &str) -> BTreeMap<String, String> {
    let text = std::fs::read_to_string(format!("/proc/self/{page}")).unwrap_or_default();
    let lines = text.lines().filter_map(|line| line.split_once(':'));
    lines
        .map(|(name, value)| (name.to_owned(), value.trim().to_owned()))
        .collect()
}

async fn memory() -> Json<Value> {
    let status = proc_lines("status");
    let bytes = |name: &str| {
        let kilobytes = status.get(name).and_then(|value| value.split(' ').next());
        kilobytes
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or_default()
            * 1024
    };
    Json(json!({
        "resident": bytes("VmRSS"),
        "residentPeak": bytes("VmHWM"),
        "virtual": bytes("VmSize"),
        "data": bytes("VmData"),
        "swapped": bytes("VmSwap"),
    }))
}

async fn process() -> Json<Value> {
    let status = proc_lines("status");
    let numbers = |name: &str| -> Vec<i64> {
        let value = status.get(name).map(String::as_str).unwrap_or_default();
        value
            .split_whitespace()
            .filter_map(|text| text.parse().ok())
            .collect()
    };
    let number = |name: &str, index: usize| numbers(name).get(index).copied().unwrap_or_default();
    let link = |path: &str| {
        let target = std::fs::read_link(path).unwrap_or_default();
        target.to_string_lossy().into_owned()
    };
    let hostname = std::fs::read_to_string("/proc/sys/kernel/hostname").unwrap_or_default();
    Json(json!({
        "uid": number("Uid", 0),
        "euid": number("Uid", 1),
        "gid": number("Gid", 0),
        "egid": number("Gid", 1),
        "groups": numbers("Groups"),
        "pid": number("Pid", 0),
        "ppid": number("PPid", 0),
        "wd": link("/proc/self/cwd"),
        "hostname": hostname.trim(),
        "tempdir": std::env::temp_dir().to_string_lossy(),
        "threads": number("Threads", 0),
        "goroutines": 0,
    }))
}

async fn metrics(State(registry): State<Registry>) -> Json<Vec<Value>> {
    let families = registry.prometheus().gather();
    let shown = families.iter().map(|family| {
        let metrics = family.get_metric().iter().map(|metric| {
            let labels: BTreeMap<&str, &str> = metric
                .get_label()
                .iter()
                .map(|label| (label.name(), label.value()))
                .collect();
            let histogram = metric.get_histogram();
            let value = match family.get_field_type() {
                prometheus::proto::MetricType::COUNTER => json!(metric.get_counter().get_value()),
                prometheus::proto::MetricType::GAUGE => json!(metric.get_gauge().get_value()),
                _ => json!({
                    "count": histogram.get_sample_count(),
                    "sum": histogram.get_sample_sum(),
                }),
            };
            json!({"labels": labels, "value": value})
        });
        json!({
            "name": family.name(),
            "help": family.help(),
            "type": format!("{:?}", family.get_field_type()).to_lowercase(),
            "metrics": metrics.collect::<Vec<_>>(),
        })
    });
    Json(shown.collect())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http_body_util::BodyExt;
    use tower::ServiceExt;

    use super::*;

    async fn page(path: &str) -> (StatusCode, Value) {
        let registry = Registry::new("test");
        registry.counter("a_total", "A.").inc();
        let request = Request::get(path).body(Body::empty()).unwrap();
        let response = pages(registry).oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        (status, serde_json::from_slice(&body).unwrap_or_default())
    }

    #[tokio::test]
    async fn pages_say_what_they_should() {
        let (_, process) = page("/procj/").await;
        assert_eq!(process["pid"], std::process::id());
        let (_, memory) = page("/memj/").await;
        assert!(memory["resident"].as_u64().unwrap() > 1 << 20);
        let (_, arguments) = page("/argj/").await;
        assert!(!arguments.as_array().unwrap().is_empty());
        let (_, families) = page("/metricj/").await;
        let families = families.as_array().unwrap();
        let family = families
            .iter()
            .find(|family| family["name"] == "a_total")
            .unwrap();
        assert_eq!(family["type"], "counter");
        assert_eq!(family["metrics"][0]["value"], 1.0);
        let (_, version) = page("/versionj/").await;
        assert!(version["version"].is_string());
    }

    #[tokio::test]
    async fn secrets_are_not_shown() {
        // Cargo sets the first one for tests.
        let (_, variables) = page("/envj/").await;
        let variables = variables.as_array().unwrap();
        let value = |name: &str| {
            let found = variables.iter().find(|variable| variable["name"] == name);
            found.map(|variable| variable["value"].clone())
        };
        assert_eq!(value("CARGO_PKG_NAME").unwrap(), "mesh-common");
        for name in ["CA_TOKEN", "private_key", "ClientSecret", "DB_PASSWORD"] {
            assert_eq!(shown(name, "x"), "(not shown)", "{name}");
        }
        assert_eq!(shown("POD_NAME", "x"), "x");
    }

    #[tokio::test]
    async fn a_slash_is_added() {
        assert_eq!(page("/memj").await.0, StatusCode::MOVED_PERMANENTLY);
        assert_eq!(page("/nothing").await.0, StatusCode::NOT_FOUND);
    }
}
