//! Pages about the resources of proxies.

use pilot_networking::kind::Kind;
use pilot_xds::view::View;
use std::collections::{BTreeMap, BTreeSet};

use axum::{
    extract::{Query, State as Shared},
    http::StatusCode,
    response::{IntoResponse, Response},
};
use istio_api::json;
use istio_rules::conversion::Complaint;
use pilot_networking::{manifest::Manifests, resource::Resource};
use serde_json::{Map, Value, json as object};

use super::{Page, Params, State, failed, json as page};
use crate::metrics::UNCONVERTED;

/// The view of a connected proxy, named by its id or the start of its connection id.
async fn view(state: &State, params: &Params) -> Result<View, Response> {
    let Some(wanted) = params.proxy_id.clone() else {
        let text = "You must provide a proxyID in the query string\n";
        return Err((StatusCode::BAD_REQUEST, text).into_response());
    };
    let found = state
        .world
        .inspect(move |writer| {
            let mut proxies = writer.fleet.proxies();
            let (id, _) = proxies.find(|(_, member)| *member.proxy.id == *wanted)?;
            let sides = writer.fleet.sides(id)?;
            Some(View {
                outbound: sides.outbound,
                inbound: sides.inbound,
                version: writer.snapshot.version,
                times: None,
            })
        })
        .await
        .map_err(|error| failed(&error))?;
    found.ok_or_else(|| {
        let text = "Proxy not connected to this Pilot instance\n";
        (StatusCode::NOT_FOUND, text).into_response()
    })
}

/// A resource as JSON, with its sources; secrets are redacted.
fn resource(kind: Kind, resource: &Resource) -> Value {
    let name = kind.type_url().trim_start_matches("type.googleapis.com/");
    let mut value = match json::write(name, &resource.body) {
        Ok(value) => value,
        Err(error) => return object!({"name": &*resource.name, "error": error.to_string()}),
    };
    if let Value::Object(map) = &mut value {
        if kind == Kind::Secret {
            let contents = map.iter_mut().filter(|(key, _)| *key != "name");
            contents.for_each(|(_, content)| redact(content));
        }
        map.insert("@type".into(), object!(kind.type_url()));
    }
    value
}

/// Replaces all strings, as Envoy does with keys.
fn redact(value: &mut Value) {
    match value {
        Value::Object(map) => {
            // The replacement would not be valid base64.
            if map.remove("inlineBytes").is_some() {
                map.insert("inlineString".into(), Value::Null);
            }
            map.values_mut().for_each(redact);
        }
        Value::Array(list) => list.iter_mut().for_each(redact),
        other => *other = "[redacted]".into(),
    }
}

fn entries(view: &View, kind: Kind, field: &str) -> Vec<Value> {
    view.sets(kind)
        .iter()
        .map(|r| {
            let sources: Vec<String> = r.sources.iter().map(ToString::to_string).collect();
            object!({"versionInfo": format!("{:016x}", r.version), field: resource(kind, r), "sources": sources})
        })
        .collect()
}

pub(super) async fn config_dump(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let view = match view(&state, &params).await {
        Ok(view) => view,
        Err(response) => return response,
    };
    let wanted = |kind: Kind| match &params.types {
        Some(types) => types.split(',').any(|name| name.trim() == kind.short()),
        None => kind != Kind::Endpoint || params.include_eds.is_some(),
    };
    let dump = |kind: Kind, message: &str, list: &str, field: &str| {
        wanted(kind).then(|| {
            let mut entry = Map::new();
            let url = format!("type.googleapis.com/envoy.admin.v3.{message}");
            entry.insert("@type".into(), url.into());
            let resources = match kind {
                Kind::Listener => entries(&view, kind, field)
                    .into_iter()
                    .map(|state| {
                        let name = state.pointer("/listener/name").cloned();
                        object!({"name": name, "activeState": state})
                    })
                    .collect(),
                _ => entries(&view, kind, field),
            };
            entry.insert(list.into(), Value::Array(resources));
            Value::Object(entry)
        })
    };
    let configs: Vec<Value> = [
        dump(
            Kind::Cluster,
            "ClustersConfigDump",
            "dynamicActiveClusters",
            "cluster",
        ),
        dump(
            Kind::Endpoint,
            "EndpointsConfigDump",
            "dynamicEndpointConfigs",
            "endpointConfig",
        ),
        dump(
            Kind::Listener,
            "ListenersConfigDump",
            "dynamicListeners",
            "listener",
        ),
        dump(
            Kind::Route,
            "RoutesConfigDump",
            "dynamicRouteConfigs",
            "routeConfig",
        ),
        dump(
            Kind::Secret,
            "SecretsConfigDump",
            "dynamicActiveSecrets",
            "secret",
        ),
    ]
    .into_iter()
    .flatten()
    .collect();
    page(&params, &object!({"configs": configs}))
}

pub(super) async fn edsz(Shared(state): Page, Query(params): Query<Params>) -> Response {
    match view(&state, &params).await {
        Ok(view) => {
            let rows: Vec<Value> = view
                .sets(Kind::Endpoint)
                .iter()
                .map(|r| resource(Kind::Endpoint, r))
                .collect();
            page(&params, &Value::Array(rows))
        }
        Err(response) => response,
    }
}

/// What generators left out and 1.1 policies that were not converted, by metric.
pub(super) async fn push_status(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let skipped = state
        .world
        .inspect(|writer| {
            // Leave out classes that are only kept for proxies that may reconnect.
            let outbound = writer.fleet.outbound_classes();
            let outbound = outbound.filter(|(_, members)| *members > 0);
            let outbound = outbound.map(|(class, _)| class.manifests().clone());
            let inbound = writer.fleet.inbound_classes();
            let inbound = inbound.filter(|(_, members)| *members > 0);
            let inbound = inbound.map(|(class, _)| class.manifests().clone());
            let manifests: Vec<_> = outbound.chain(inbound).collect();
            (manifests, writer.snapshot.clone())
        })
        .await;
    match skipped {
        Ok((manifests, snapshot)) => {
            let mut metrics = by_metric(&manifests);
            let lists = snapshot.unconverted.values();
            let unconverted = unconverted(lists.flat_map(|list| list.iter()));
            if !unconverted.is_empty() {
                metrics.insert(UNCONVERTED.to_owned(), Value::Object(unconverted));
            }
            page(&params, &Value::Object(metrics))
        }
        Err(error) => failed(&error),
    }
}

/// What one unit of work left out in any class, and why.
#[derive(Default)]
struct Reasons<'a> {
    messages: BTreeSet<&'a str>,
    sources: BTreeSet<String>,
}

fn by_metric(manifests: &[std::sync::Arc<Manifests>]) -> Map<String, Value> {
    let mut units: BTreeMap<(&str, &str), Reasons<'_>> = BTreeMap::new();
    let rows = manifests
        .iter()
        .flat_map(|m| &m.skipped)
        .flat_map(|(unit, list)| list.iter().map(move |skipped| (unit, skipped)));
    for (unit, skipped) in rows {
        let source = skipped.source.as_ref().map(ToString::to_string);
        let unit = units.entry((skipped.metric, unit)).or_default();
        unit.messages.insert(&skipped.reason);
        unit.sources.extend(source);
    }
    let mut metrics: Map<String, Value> = Map::new();
    for ((metric, unit), Reasons { messages, sources }) in units {
        let join = |texts: Vec<&str>| (!texts.is_empty()).then(|| texts.join("; "));
        let message = join(messages.into_iter().collect());
        let source = join(sources.iter().map(String::as_str).collect());
        let entry = metrics.entry(metric).or_insert_with(|| object!({}));
        if let Value::Object(entry) = entry {
            let row = object!({"message": message, "source": source});
            entry.insert(unit.to_owned(), row);
        }
    }
    metrics
}

/// Parts of 1.1 policies that could not be converted, by object and path.
fn unconverted<'a>(complaints: impl Iterator<Item = &'a Complaint>) -> Map<String, Value> {
    let mut messages: BTreeMap<(String, &str), Vec<&str>> = BTreeMap::new();
    for one in complaints {
        let place = (one.object(), one.path.as_str());
        messages.entry(place).or_default().push(&one.message);
    }
    let rows = messages.into_iter().map(|((source, path), messages)| {
        let unit = format!("{source} {path}");
        (
            unit,
            object!({"message": messages.join("; "), "source": source}),
        )
    });
    rows.collect()
}

pub(super) async fn cachez(Shared(state): Page, Query(params): Query<Params>) -> Response {
    let stats = state
        .world
        .inspect(|writer| {
            let outbound: Vec<Value> = writer
                .fleet
                .outbound_classes()
                .map(|(class, members)| {
                    let manifests = class.manifests();
                    object!({
                        "namespace": &*class.class().namespace,
                        "sidecar": class.class().sidecar.as_deref(),
                        "secretAccess": format!("{:?}", class.class().secret_access),
                        "proxies": members,
                        "clusters": manifests[Kind::Cluster].len(),
                        "endpoints": manifests[Kind::Endpoint].len(),
                        "listeners": manifests[Kind::Listener].len(),
                        "routes": manifests[Kind::Route].len(),
                    })
                })
                .collect();
            let cache = writer.fleet.cache();
            object!({
                "outboundClasses": outbound,
                "inboundClasses": writer.fleet.inbound_classes().count(),
                "shared": {
                    "clusters": {"hits": cache.clusters.hits(), "misses": cache.clusters.misses()},
                    "endpoints":
                        {"hits": cache.endpoints.hits(), "misses": cache.endpoints.misses()},
                    "listeners":
                        {"hits": cache.listeners.hits(), "misses": cache.listeners.misses()},
                    "virtualHosts": {"hits": cache.virtual_hosts.hits(),
                                     "misses": cache.virtual_hosts.misses()},
                },
            })
        })
        .await;
    match stats {
        Ok(stats) => page(&params, &stats),
        Err(error) => failed(&error),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_was_not_converted_hides_another() {
        let complaint = |name: &str, path: &str, message: &str| Complaint {
            kind: "Policy",
            namespace: "foo".to_owned(),
            name: name.to_owned(),
            path: path.to_owned(),
            message: message.to_owned(),
        };
        let complaints = [
            complaint("a", "spec.targets[0]", "one"),
            complaint("a", "spec.targets[0]", "two"),
            complaint("b", "spec", "three"),
        ];
        assert_eq!(
            Value::Object(unconverted(complaints.iter())),
            object!({
                "Policy foo/a spec.targets[0]": {"message": "one; two", "source": "Policy foo/a"},
                "Policy foo/b spec": {"message": "three", "source": "Policy foo/b"},
            })
        );
    }
}
