//! The static clusters.

use std::net::IpAddr;

use serde_json::{Map, Value, json};

use super::{Channel, HostPort, Inputs, San, any, object, socket_address, time};

const HTTP_OPTIONS: &str = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions";
const UPSTREAM_TLS: &str = "envoy.extensions.transport_sockets.tls.v3.UpstreamTlsContext";
/// Linux's `SOL_SOCKET`; `SO_MARK` follows.
const SOL_SOCKET: u8 = 1;
const SO_MARK: u8 = 36;

/// A plaintext cluster for one port of this Pod.
pub(super) fn local(name: &str, address: &str, port: u16) -> Value {
    json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "type": "STATIC",
        "connect_timeout": "0.250s",
        "load_assignment": assignment(name, socket_address(address, port)),
    })
}

/// Cluster of the agent's secret discovery socket.
pub(super) fn sds(path: &str) -> Value {
    json!({
        "name": "sds-grpc",
        "alt_stat_name": "sds-grpc;",
        "type": "STATIC",
        "connect_timeout": "1s",
        "typed_extension_protocol_options": http2(json!({})),
        "load_assignment": assignment("sds-grpc", json!({"pipe": {"path": path}})),
    })
}

/// Cluster of pilot.
pub(super) fn xds(inputs: &Inputs<'_>) -> Value {
    let threshold = |priority: &str| json!({"priority": priority, "max_connections": 100_000, "max_pending_requests": 100_000, "max_requests": 100_000});
    let mut cluster = named(inputs, "xds-grpc", &inputs.discovery, "5s");
    cluster.insert(
        "connect_timeout".to_owned(),
        time(inputs.config.connect_timeout),
    );
    // One connection per stream, to spread proxies over the pilots.
    cluster.insert(
        "typed_extension_protocol_options".to_owned(),
        http2(json!({"common_http_protocol_options": {"max_requests_per_connection": 1}})),
    );
    cluster.insert(
        "circuit_breakers".to_owned(),
        json!({"thresholds": [threshold("DEFAULT"), threshold("HIGH")]}),
    );
    cluster.insert(
        "upstream_connection_options".to_owned(),
        json!({"tcp_keepalive": {"keepalive_time": 300}}),
    );
    let tls = match &inputs.channel {
        Channel::Plain | Channel::Token { .. } => None,
        Channel::Mtls => Some(json!({
            "alpn_protocols": ["h2"],
            "tls_certificate_sds_secret_configs": [secret("default")],
            "combined_validation_context": {
                "default_validation_context": {"match_typed_subject_alt_names": sans(inputs.discovery_sans)},
                "validation_context_sds_secret_config": secret("ROOTCA"),
            },
        })),
        Channel::MtlsFiles { chain, key, root } => {
            let directory = root
                .rsplit_once('/')
                .map_or(".", |(directory, _)| directory);
            Some(json!({
                "alpn_protocols": ["h2"],
                "tls_certificates": [{"certificate_chain": {"filename": chain}, "private_key": {"filename": key}}],
                "validation_context": {
                    "trusted_ca": {"filename": root, "watched_directory": {"path": directory}},
                    "match_typed_subject_alt_names": sans(inputs.discovery_sans),
                },
            }))
        }
    };
    if let Some(common) = tls {
        let mut context = object(json!({"common_tls_context": common}));
        // SNI allows names only.
        if inputs.discovery_name.parse::<IpAddr>().is_err() {
            context.insert("sni".to_owned(), inputs.discovery_name.as_str().into());
        }
        cluster.insert(
            "transport_socket".to_owned(),
            json!({"name": "envoy.transport_sockets.tls", "typed_config": any(UPSTREAM_TLS, Value::Object(context))}),
        );
    }
    Value::Object(cluster)
}

/// Cluster of an external server: tracing collector, metrics or access log service.
pub(super) fn remote(
    inputs: &Inputs<'_>,
    name: &str,
    address: &str,
    http2_only: bool,
) -> Result<Value, String> {
    let at =
        HostPort::parse(address).ok_or_else(|| format!("{name}: {address:?} is not host:port"))?;
    let mut cluster = named(inputs, name, &at, "30s");
    cluster.insert("connect_timeout".to_owned(), "1s".into());
    if http2_only {
        cluster.insert(
            "typed_extension_protocol_options".to_owned(),
            http2(json!({})),
        );
    }
    Ok(Value::Object(cluster))
}

/// The socket option that marks a socket as the proxy's own.
pub(super) fn mark_option(mark: u32) -> Value {
    json!({"description": "exempt from capture", "level": SOL_SOCKET, "name": SO_MARK, "int_value": mark, "state": "STATE_PREBIND"})
}

fn named(inputs: &Inputs<'_>, name: &str, at: &HostPort, refresh: &str) -> Map<String, Value> {
    let mut cluster = object(json!({
        "name": name,
        "alt_stat_name": format!("{name};"),
        "load_assignment": assignment(name, socket_address(&at.host, at.port)),
    }));
    if at.ip().is_some() {
        cluster.insert("type".to_owned(), "STATIC".into());
    } else {
        cluster.insert(
            "cluster_type".to_owned(),
            json!({"name": "envoy.clusters.dns", "typed_config": any("envoy.extensions.clusters.dns.v3.DnsCluster", json!({
                "dns_lookup_family": inputs.families.dns(),
                "respect_dns_ttl": true,
                "dns_refresh_rate": refresh,
            }))}),
        );
    }
    cluster
}

fn assignment(name: &str, address: Value) -> Value {
    json!({"cluster_name": name, "endpoints": [{"lb_endpoints": [{"endpoint": {"address": address}}]}]})
}

fn http2(more: Value) -> Value {
    let mut options = object(more);
    options.insert(
        "explicit_http_config".to_owned(),
        json!({"http2_protocol_options": {}}),
    );
    json!({HTTP_OPTIONS: any(HTTP_OPTIONS, Value::Object(options))})
}

/// Secret discovery of `default` or `ROOTCA`, without a timeout.
fn secret(name: &str) -> Value {
    json!({"name": name, "sds_config": {
        "initial_fetch_timeout": "0s",
        "resource_api_version": "V3",
        "api_config_source": {
            "api_type": "GRPC",
            "transport_api_version": "V3",
            "set_node_on_first_message_only": true,
            "grpc_services": [{"envoy_grpc": {"cluster_name": "sds-grpc"}}],
        },
    }})
}

fn sans(sans: &[San]) -> Value {
    sans.iter()
        .map(|san| {
            let (kind, value) = match san {
                San::Uri(value) => ("URI", value),
                San::Dns(value) => ("DNS", value),
            };
            json!({"san_type": kind, "matcher": {"exact": value}})
        })
        .collect()
}
