//! Pages about connected proxies.

use axum::{
    extract::{Query, State as Shared},
    response::Response,
};
use pilot_networking::kind::Kind;
use serde_json::{Map, Value, json};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

use super::{Page, Params, json as page};
use crate::xds::registry::Status;

pub(super) async fn syncz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let rows: Vec<Value> = state
        .streams
        .list()
        .iter()
        .filter(|status| {
            params
                .namespace
                .as_ref()
                .is_none_or(|ns| *status.proxy.namespace == **ns)
        })
        .map(row)
        .collect();
    page(&params, &Value::Array(rows))
}

fn row(status: &Status) -> Value {
    let proxy = &status.proxy;
    let mut row = Map::new();
    row.insert("cluster_id".into(), json!(&*proxy.cluster_id));
    row.insert("proxy".into(), json!(&*proxy.id));
    row.insert("proxy_type".into(), json!(proxy_type(status)));
    row.insert("proxy_version".into(), json!(&*proxy.version));
    row.insert("istio_version".into(), json!(&*proxy.version));
    let mut resources = Map::new();
    for (kind, watch) in Kind::ALL.into_iter().zip(&status.types) {
        let Some(watch) = watch else { continue };
        let name = match kind {
            Kind::Cluster => "cluster",
            Kind::Endpoint => "endpoint",
            Kind::Listener => "listener",
            Kind::Route => "route",
            Kind::Secret => "secret",
        };
        row.insert(format!("{name}_sent"), json!(watch.sent));
        row.insert(format!("{name}_acked"), json!(watch.acked));
        let mut entry = Map::new();
        entry.insert("sent".into(), json!(watch.sent));
        entry.insert("acked".into(), json!(watch.acked));
        if let Some(error) = &watch.error {
            entry.insert("lastError".into(), json!(error));
        }
        resources.insert(kind.type_url().into(), Value::Object(entry));
    }
    row.insert("resources".into(), Value::Object(resources));
    Value::Object(row)
}

fn proxy_type(status: &Status) -> &'static str {
    match status.proxy.kind {
        pilot_model::proxy::ProxyType::Sidecar => "sidecar",
        pilot_model::proxy::ProxyType::Router => "router",
    }
}

fn connection(status: &Status, all: bool) -> Value {
    let connected = OffsetDateTime::from(status.connected)
        .format(&Rfc3339)
        .unwrap_or_default();
    let mut entry = Map::new();
    entry.insert("connectionId".into(), json!(status.connection));
    entry.insert("connectedAt".into(), json!(connected));
    entry.insert("address".into(), json!(status.address));
    if all {
        let proxy = &status.proxy;
        entry.insert("labels".into(), json!(*proxy.labels));
        let locality = &proxy.locality;
        entry.insert(
            "locality".into(),
            json!({"region": &*locality.region, "zone": &*locality.zone,
                   "subzone": &*locality.subzone}),
        );
        let watches: Map<String, Value> = Kind::ALL
            .into_iter()
            .zip(&status.types)
            .filter_map(|(kind, watch)| Some((kind.type_url().to_owned(), watch.as_ref()?.names)))
            .map(|(url, names)| (url, json!(names)))
            .collect();
        entry.insert("watches".into(), Value::Object(watches));
    }
    Value::Object(entry)
}

fn clients(all: bool, list: &[Status]) -> Value {
    let clients: Vec<Value> = list.iter().map(|status| connection(status, all)).collect();
    json!({"totalClients": clients.len(), "clients": clients})
}

pub(super) async fn adsz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    page(&params, &clients(true, &state.streams.list()))
}

pub(super) async fn connections(Shared(state): Page, Query(params): Query<Params>) -> Response {
    page(&params, &clients(false, &state.streams.list()))
}
