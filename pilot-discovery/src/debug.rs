//! `/debug/*`: the state of this process and of its proxies. Pages are built on request.

mod credentials;
mod distribution;
mod dump;
mod services;
mod sync;

use std::sync::Arc;

use axum::{
    Router,
    extract::{Query, State as Shared},
    http::StatusCode,
    response::{Html, IntoResponse, Response},
    routing::get,
};
use serde::Deserialize;
use serde_json::Value;

use crate::{config::secrets, world, xds::registry::Registry};

/// The inputs of pages.
#[derive(Clone, Debug)]
pub struct State {
    pub world: world::Handle,
    pub streams: Registry,
    /// Name of this process.
    pub pilot: Arc<str>,
    pub secrets: secrets::cluster::Status,
}

/// Query parameters of pages.
#[derive(Debug, Default, Deserialize)]
struct Params {
    #[serde(default, rename = "proxyID")]
    proxy_id: Option<String>,
    #[serde(default)]
    namespace: Option<String>,
    /// Comma-separated: cds, eds, lds, rds, sds.
    #[serde(default)]
    types: Option<String>,
    #[serde(default)]
    include_eds: Option<String>,
    #[serde(default)]
    pretty: Option<String>,
}

/// Pages with their descriptions.
const PAGES: &[(&str, &str)] = &[
    ("adsz", "connected proxies and what they subscribed to"),
    ("cachez", "classes of proxies and shared results"),
    (
        "config_distribution",
        "proxies that hold an object (resource=kind/namespace/name, resourceVersion=)",
    ),
    (
        "config_dump",
        "resources of a proxy (proxyID=, types=, include_eds=)",
    ),
    (
        "configz",
        "configuration objects, and the conversions of 1.1 policies",
    ),
    ("connections", "connected proxies"),
    (
        "credentialz",
        "Secrets for gateways by name and version, and which accounts may receive them",
    ),
    ("edsz", "endpoints of a proxy (proxyID=)"),
    ("endpointShardz", "endpoints by service"),
    ("endpointz", "endpoints by service"),
    ("instancesz", "services that connected proxies implement"),
    ("mesh", "mesh config"),
    ("push_status", "what was left out, and why"),
    ("registryz", "services"),
    ("syncz", "versions sent to and acknowledged by each proxy"),
];

/// All pages. The caller restricts access to them.
pub fn router(state: State) -> Router {
    Router::new()
        .route("/debug", get(index))
        .route("/debug/list", get(list))
        .route("/debug/syncz", get(sync::syncz))
        .route("/debug/adsz", get(sync::adsz))
        .route("/debug/connections", get(sync::connections))
        .route("/debug/registryz", get(services::registryz))
        .route("/debug/endpointz", get(services::endpoint_shardz))
        .route("/debug/endpointShardz", get(services::endpoint_shardz))
        .route("/debug/configz", get(services::configz))
        .route("/debug/instancesz", get(services::instancesz))
        .route("/debug/mesh", get(services::mesh))
        .route("/v1/registration", get(services::registration))
        .route(
            "/debug/config_distribution",
            get(distribution::config_distribution),
        )
        .route("/debug/config_dump", get(dump::config_dump))
        .route("/debug/credentialz", get(credentials::credentialz))
        .route("/debug/edsz", get(dump::edsz))
        .route("/debug/push_status", get(dump::push_status))
        .route("/debug/cachez", get(dump::cachez))
        .with_state(state)
}

async fn index() -> Html<String> {
    let rows: String = PAGES
        .iter()
        .map(|(page, about)| {
            format!("<tr><td><a href=\"/debug/{page}\">{page}</a></td><td>{about}</td></tr>")
        })
        .collect();
    Html(format!(
        "<!doctype html><title>pilot</title><h1>Debug pages</h1><table>{rows}</table>"
    ))
}

async fn list(Query(params): Query<Params>) -> Response {
    let names: Vec<Value> = PAGES.iter().map(|(page, _)| (*page).into()).collect();
    json(&params, &Value::Array(names))
}

fn json(params: &Params, value: &Value) -> Response {
    let text = if params.pretty.is_some() {
        serde_json::to_string_pretty(value)
    } else {
        serde_json::to_string(value)
    };
    match text {
        Ok(text) => ([("content-type", "application/json")], text).into_response(),
        Err(error) => failed(&error.into()),
    }
}

fn failed(error: &anyhow::Error) -> Response {
    (StatusCode::INTERNAL_SERVER_ERROR, format!("{error:#}\n")).into_response()
}

type Page = Shared<State>;
