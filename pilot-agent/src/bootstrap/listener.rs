//! The static listeners: metrics and health.

use serde_json::{Value, json};

use super::{Inputs, any, socket_address};

const MANAGER: &str =
    "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager";
const COMPRESSOR: &str = "envoy.extensions.filters.http.compressor.v3.Compressor";

/// Serves `/stats/prometheus` of Envoy's admin interface.
pub(super) fn metrics(inputs: &Inputs<'_>) -> Value {
    let mut filters = Vec::new();
    if inputs.config.stats_compression != Some(false) {
        filters.extend(["brotli", "zstd", "gzip"].map(compressor));
    }
    filters.push(router());
    let families = inputs.families;
    let (address, other) = if inputs.metrics_local_only {
        (families.localhost(), None)
    } else {
        (families.wildcard(), families.other_wildcard())
    };
    listener(
        address,
        other,
        inputs.envoy_prometheus_port,
        &Http {
            stat_prefix: "stats",
            path: "/stats/prometheus",
            cluster: "prometheus_stats",
            filters,
        },
    )
}

/// Serves `/healthz/ready` of the agent.
pub(super) fn health(inputs: &Inputs<'_>) -> Value {
    let families = inputs.families;
    let http = Http {
        stat_prefix: "agent",
        path: "/healthz/ready",
        cluster: "agent",
        filters: vec![router()],
    };
    let mut listener = listener(
        families.wildcard(),
        families.other_wildcard(),
        inputs.envoy_status_port,
        &http,
    );
    if inputs.status_proxy_protocol
        && let Some(map) = listener.as_object_mut()
    {
        map.insert(
            "listener_filters".to_owned(),
            json!([{"name": "envoy.filters.listener.proxy_protocol", "typed_config": any(
                "envoy.extensions.filters.listener.proxy_protocol.v3.ProxyProtocol",
                json!({"allow_requests_without_proxy_protocol": true}),
            )}]),
        );
    }
    listener
}

struct Http {
    stat_prefix: &'static str,
    path: &'static str,
    cluster: &'static str,
    filters: Vec<Value>,
}

fn listener(address: &str, other: Option<&str>, port: u16, http: &Http) -> Value {
    // The name is the same for both families: pilot and the drain logic depend on it.
    let mut listener = json!({
        "name": format!("0.0.0.0_{port}"),
        "address": socket_address(address, port),
        "ignore_global_conn_limit": true,
        "bypass_overload_manager": true,
        "filter_chains": [{"filters": [{
            "name": "envoy.filters.network.http_connection_manager",
            "typed_config": any(MANAGER, json!({
                "codec_type": "AUTO",
                "stat_prefix": http.stat_prefix,
                "route_config": {"virtual_hosts": [{
                    "name": "backend",
                    "domains": ["*"],
                    "routes": [{"match": {"prefix": http.path}, "route": {"cluster": http.cluster}}],
                }]},
                "http_filters": http.filters,
            })),
        }]}],
    });
    if let (Some(other), Some(map)) = (other, listener.as_object_mut()) {
        map.insert(
            "additional_addresses".to_owned(),
            json!([{"address": socket_address(other, port)}]),
        );
    }
    listener
}

fn router() -> Value {
    json!({
        "name": "envoy.filters.http.router",
        "typed_config": any("envoy.extensions.filters.http.router.v3.Router", json!({})),
    })
}

fn compressor(kind: &str) -> Value {
    let library = match kind {
        "brotli" => "envoy.extensions.compression.brotli.compressor.v3.Brotli",
        "zstd" => "envoy.extensions.compression.zstd.compressor.v3.Zstd",
        _ => "envoy.extensions.compression.gzip.compressor.v3.Gzip",
    };
    json!({
        "name": format!("envoy.filters.http.compressor.{kind}"),
        "typed_config": any(COMPRESSOR, json!({
            "compressor_library": {"name": format!("stats_{kind}"), "typed_config": any(library, json!({}))},
        })),
    })
}
