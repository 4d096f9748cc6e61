//! Envoy's bootstrap: from settings to the JSON file. Pure.
//!
//! Built as JSON, not as protobuf messages: writing messages as JSON needs the descriptors of the
//! whole Envoy API, which would cost every Pod tens of megabytes for one file at startup. The tests
//! read the result back as `envoy.config.bootstrap.v3.Bootstrap` and pass it to Envoy itself.

use std::{
    collections::BTreeMap,
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use mesh_core::duration;
use serde_json::{Map, Value, json};

use crate::{address::Families, node::Node, proxy_config::ProxyConfig};

pub mod cluster;
pub mod listener;
pub mod stats;
pub mod template;

/// host:port.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostPort {
    /// Name or address, without brackets.
    pub host: String,
    /// Port, 1 to 65535.
    pub port: u16,
}

impl HostPort {
    /// Parses `host:port` and `[v6]:port`.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let (host, port) = text.rsplit_once(':')?;
        let host = host
            .strip_prefix('[')
            .map_or(Some(host), |host| host.strip_suffix(']'))?;
        let port = port.parse().ok().filter(|port| *port != 0)?;
        (!host.is_empty() && !host.contains('/')).then(|| Self {
            host: host.to_owned(),
            port,
        })
    }

    /// The address, if the host is an IP address.
    #[must_use]
    pub fn ip(&self) -> Option<IpAddr> {
        self.host.parse().ok()
    }
}

/// How Envoy connects to pilot.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Channel {
    /// No TLS.
    Plain,
    /// Mutual TLS with certificates from the agent's secret discovery.
    Mtls,
    /// Mutual TLS with certificate files.
    MtlsFiles {
        /// Certificate chain.
        chain: String,
        /// Private key.
        key: String,
        /// Roots.
        root: String,
    },
    /// TLS with the Pod's token.
    Token {
        /// Roots.
        root: String,
        /// Token file, read again for every stream.
        token: String,
    },
}

/// All inputs of the bootstrap.
#[derive(Debug, Clone)]
pub struct Inputs<'a> {
    /// The node.
    pub node: &'a Node,
    /// The effective proxy configuration.
    pub config: &'a ProxyConfig,
    /// Address families.
    pub families: Families,
    /// Addresses of the Pod.
    pub addresses: &'a [IpAddr],
    /// The Pod's annotations (statistics).
    pub annotations: &'a BTreeMap<String, String>,
    /// Address of pilot.
    pub discovery: HostPort,
    /// Name of pilot in its certificate and in the TLS handshake.
    pub discovery_name: String,
    /// SPIFFE identities and DNS names; pilot's certificate must contain one of them.
    pub discovery_sans: &'a [San],
    /// Transport of connections to pilot.
    pub channel: Channel,
    /// Delta xDS instead of state of the world.
    pub delta: bool,
    /// Path of the agent's secret discovery socket.
    pub sds_socket: String,
    /// Port of the agent's status server.
    pub status_port: u16,
    /// Port of Envoy's health listener.
    pub envoy_status_port: u16,
    /// Port of Envoy's metrics listener.
    pub envoy_prometheus_port: u16,
    /// Keep the statistics of open connections.
    pub count_connections: bool,
    /// Accept the PROXY protocol on the health listener.
    pub status_proxy_protocol: bool,
    /// Serve metrics to this Pod only.
    pub metrics_local_only: bool,
    /// Write log lines as JSON.
    pub log_as_json: bool,
    /// File for outlier detection events.
    pub outlier_log_path: &'a str,
    /// Resolved address of the statsd receiver.
    pub statsd: Option<SocketAddr>,
    /// Address of the node, which replaces `$(HOST_IP)` in the Datadog address.
    pub host_ip: Option<&'a str>,
    /// Mark of the proxy's upstream sockets, for capture rules that exempt by mark.
    pub socket_mark: Option<u32>,
}

/// An accepted subject alternative name.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum San {
    /// A SPIFFE identity.
    Uri(String),
    /// A DNS name.
    Dns(String),
}

const GLOBAL_CONNECTIONS_VARIABLE: &str = "ISTIO_META_GLOBAL_DOWNSTREAM_MAX_CONNECTIONS";
const GLOBAL_CONNECTIONS_RUNTIME: &str = "overload.global_downstream_max_connections";

/// The bootstrap, and warnings about values that were left out.
///
/// # Errors
/// If an address is not host:port or an annotation cannot be parsed; the message names it.
pub fn build(inputs: &Inputs<'_>) -> Result<(Value, Vec<String>), String> {
    let mut warnings = Vec::new();
    let localhost = inputs.families.localhost();
    let admin = socket_address(localhost, inputs.config.proxy_admin_port);
    let mut clusters = vec![
        cluster::local(
            "prometheus_stats",
            localhost,
            inputs.config.proxy_admin_port,
        ),
        cluster::local("agent", localhost, inputs.status_port),
        cluster::sds(&inputs.sds_socket),
    ];
    if !matches!(inputs.channel, Channel::Token { .. }) {
        clusters.push(cluster::xds(inputs));
    }
    let mut root = object(json!({
        "application_log_config": {"log_format": log_format(inputs.log_as_json)},
        "node": node(inputs.node),
        "layered_runtime": {"layers": [
            {"name": "global config", "static_layer": runtime(&inputs.config.runtime_values)},
            {"name": "admin", "admin_layer": {}},
        ]},
        "bootstrap_extensions": [{
            "name": "envoy.bootstrap.internal_listener",
            "typed_config": any("envoy.extensions.bootstrap.internal_listener.v3.InternalListener", json!({"buffer_size_kb": 64})),
        }],
        "stats_config": stats::config(inputs, &mut warnings)?,
        "admin": {
            "access_log": [{
                "name": "envoy.access_loggers.file",
                "typed_config": any("envoy.extensions.access_loggers.file.v3.FileAccessLog", json!({"path": "/dev/null"})),
            }],
            "profile_path": "/var/lib/istio/data/envoy.prof",
            "address": admin,
        },
        "dynamic_resources": {
            "lds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "cds_config": {"ads": {}, "initial_fetch_timeout": "0s", "resource_api_version": "V3"},
            "ads_config": {
                "api_type": if inputs.delta { "DELTA_GRPC" } else { "GRPC" },
                "transport_api_version": "V3",
                "set_node_on_first_message_only": true,
                "grpc_services": [xds_service(inputs)],
            },
        },
        "overload_manager": {"resource_monitors": [{
            "name": "envoy.resource_monitors.global_downstream_max_connections",
            "typed_config": any(
                "envoy.extensions.resource_monitors.downstream_connections.v3.DownstreamConnectionsConfig",
                json!({"max_active_downstream_connections": connection_limit(inputs.config)?}),
            ),
        }]},
        "deferred_stat_options": {"enable_deferred_creation_stats": true},
    }));
    let mut sinks = Vec::new();
    tracing(inputs, &mut root, &mut clusters)?;
    if let Some(statsd) = inputs.statsd {
        sinks.push(
            json!({"name": "envoy.stat_sinks.statsd", "typed_config": any(
                "envoy.config.metrics.v3.StatsdSink",
                json!({"address": socket_address(&statsd.ip().to_string(), statsd.port())}),
            )}),
        );
    }
    let metrics_service = first_set(
        &inputs.config.envoy_metrics_service.address,
        &inputs.config.envoy_metrics_service_address,
    );
    if !metrics_service.is_empty() {
        clusters.push(cluster::remote(
            inputs,
            "envoy_metrics_service",
            metrics_service,
            true,
        )?);
        sinks.push(json!({"name": "envoy.stat_sinks.metrics_service", "typed_config": any(
            "envoy.config.metrics.v3.MetricsServiceConfig",
            json!({"transport_api_version": "V3", "grpc_service": {"envoy_grpc": {"cluster_name": "envoy_metrics_service"}}}),
        )}));
    }
    if !inputs.config.envoy_access_log_service.address.is_empty() {
        let address = &inputs.config.envoy_access_log_service.address;
        clusters.push(cluster::remote(
            inputs,
            "envoy_accesslog_service",
            address,
            true,
        )?);
    }
    if !sinks.is_empty() {
        root.insert("stats_sinks".to_owned(), sinks.into());
    }
    stats::flush(inputs, &mut root, &mut warnings)?;
    root.insert("cluster_manager".to_owned(), cluster_manager(inputs));
    root.insert(
        "static_resources".to_owned(),
        json!({"clusters": clusters, "listeners": [listener::metrics(inputs), listener::health(inputs)]}),
    );
    Ok((Value::Object(root), warnings))
}

/// The JSON object of a literal.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(map) => map,
        _ => Map::new(),
    }
}

/// JSON form of `google.protobuf.Any`.
fn any(name: &str, value: Value) -> Value {
    let mut map = object(value);
    map.insert(
        "@type".to_owned(),
        format!("type.googleapis.com/{name}").into(),
    );
    Value::Object(map)
}

fn socket_address(address: &str, port: u16) -> Value {
    json!({"socket_address": {"address": address, "port_value": port}})
}

fn first_set<'a>(first: &'a str, second: &'a str) -> &'a str {
    if first.is_empty() { second } else { first }
}

fn log_format(as_json: bool) -> Value {
    if as_json {
        json!({"json_format": {
            "time": "%Y-%m-%dT%T.%fZ", "level": "%l", "scope": "envoy %n", "msg": "%j", "caller": "%g:%#", "thread": "%t",
        }})
    } else {
        json!({"text_format": "%Y-%m-%dT%T.%fZ\t%l\tenvoy %n %g:%#\t%v\tthread=%t"})
    }
}

fn node(node: &Node) -> Value {
    let mut map =
        object(json!({"id": node.id, "cluster": node.cluster, "metadata": node.metadata}));
    let locality: Map<String, Value> = ["region", "zone", "sub_zone"]
        .into_iter()
        .zip(&node.locality)
        .filter(|(_, value)| !value.is_empty())
        .map(|(key, value)| (key.to_owned(), value.as_str().into()))
        .collect();
    if !locality.is_empty() {
        map.insert("locality".to_owned(), Value::Object(locality));
    }
    Value::Object(map)
}

/// `""` removes a default, `true` and `false` become booleans, everything else stays text.
fn runtime(values: &BTreeMap<String, String>) -> Value {
    let mut layer = object(json!({
        "re2.max_program_size.error_level": "32768",
        "envoy.reloadable_features.http_reject_path_with_fragment": false,
    }));
    for (key, value) in values
        .iter()
        .filter(|(key, _)| *key != GLOBAL_CONNECTIONS_RUNTIME)
    {
        match value.as_str() {
            "" => {
                layer.remove(key);
            }
            "true" => {
                layer.insert(key.clone(), true.into());
            }
            "false" => {
                layer.insert(key.clone(), false.into());
            }
            text => {
                layer.insert(key.clone(), text.into());
            }
        }
    }
    Value::Object(layer)
}

fn connection_limit(config: &ProxyConfig) -> Result<u64, String> {
    let text = config
        .proxy_metadata
        .get(GLOBAL_CONNECTIONS_VARIABLE)
        .or_else(|| config.runtime_values.get(GLOBAL_CONNECTIONS_RUNTIME));
    match text {
        None => Ok(2_147_483_647),
        Some(text) => text.parse().ok().filter(|limit| *limit > 0).ok_or_else(|| {
            format!("{GLOBAL_CONNECTIONS_VARIABLE}: {text:?} is not a valid number of connections")
        }),
    }
}

fn xds_service(inputs: &Inputs<'_>) -> Value {
    let Channel::Token { root, token } = &inputs.channel else {
        return json!({"envoy_grpc": {"cluster_name": "xds-grpc"}});
    };
    let plugin = "envoy.grpc_credentials.file_based_metadata";
    json!({"google_grpc": {
        "target_uri": format!("{}:{}", inputs.discovery.host, inputs.discovery.port),
        "stat_prefix": "googlegrpcxds",
        "channel_credentials": {"ssl_credentials": {"root_certs": {"filename": root}}},
        "call_credentials": [{"from_plugin": {"name": plugin, "typed_config": any(
            "envoy.config.grpc_credential.v3.FileBasedMetadataConfig",
            json!({"secret_data": {"filename": token}, "header_key": "authorization", "header_prefix": "Bearer "}),
        )}}],
        "credentials_factory_name": plugin,
    }})
}

fn cluster_manager(inputs: &Inputs<'_>) -> Value {
    let mut manager = object(json!({"enable_deferred_cluster_creation": true}));
    if !inputs.outlier_log_path.is_empty() {
        manager.insert(
            "outlier_detection".to_owned(),
            json!({"event_log_path": inputs.outlier_log_path}),
        );
    }
    if let Some(mark) = inputs.socket_mark {
        manager.insert(
            "upstream_bind_config".to_owned(),
            json!({"socket_options": [cluster::mark_option(mark)]}),
        );
    }
    Value::Object(manager)
}

fn tracing(
    inputs: &Inputs<'_>,
    root: &mut Map<String, Value>,
    clusters: &mut Vec<Value>,
) -> Result<(), String> {
    let tracing = &inputs.config.tracing;
    let provider = if let Some(zipkin) = tracing.zipkin.as_ref().filter(|at| !at.address.is_empty())
    {
        clusters.push(cluster::remote(inputs, "zipkin", &zipkin.address, false)?);
        json!({"name": "envoy.tracers.zipkin", "typed_config": any("envoy.config.trace.v3.ZipkinConfig", json!({
            "collector_cluster": "zipkin",
            "collector_endpoint": "/api/v2/spans",
            "collector_endpoint_version": "HTTP_JSON",
            "trace_id_128bit": true,
            "shared_span_context": false,
        }))})
    } else if let Some(datadog) = tracing.datadog.as_ref().filter(|at| !at.address.is_empty()) {
        let address = substitute_host_ip(&datadog.address, inputs.host_ip);
        clusters.push(cluster::remote(inputs, "datadog_agent", &address, false)?);
        json!({"name": "envoy.tracers.datadog", "typed_config": any("envoy.config.trace.v3.DatadogConfig", json!({
            "collector_cluster": "datadog_agent",
            "service_name": inputs.node.cluster,
        }))})
    } else {
        return Ok(());
    };
    root.insert("tracing".to_owned(), json!({"http": provider}));
    Ok(())
}

/// Replaces `$(HOST_IP)`; IPv6 addresses are put in brackets.
#[must_use]
pub fn substitute_host_ip(text: &str, host_ip: Option<&str>) -> String {
    let Some(host_ip) = host_ip else {
        return text.to_owned();
    };
    let shown = if host_ip.contains(':') {
        format!("[{host_ip}]")
    } else {
        host_ip.to_owned()
    };
    text.replace("$(HOST_IP)", &shown)
}

fn time(duration: Duration) -> Value {
    duration::json(duration).into()
}
