//! Access logs by the mesh config.

use istio_api::{
    any,
    envoy::{
        config::{
            accesslog::v3::{
                AccessLog, AccessLogFilter, ResponseFlagFilter, access_log,
                access_log_filter::FilterSpecifier,
            },
            core::v3::{
                ApiVersion, DataSource, GrpcService, JsonFormatOptions, SubstitutionFormatString,
                TypedExtensionConfig, data_source::Specifier, grpc_service,
                substitution_format_string::Format,
            },
        },
        extensions::{
            access_loggers::{
                file::v3::{FileAccessLog, file_access_log::AccessLogFormat},
                grpc::v3::{
                    CommonGrpcAccessLogConfig, HttpGrpcAccessLogConfig, TcpGrpcAccessLogConfig,
                },
            },
            formatter::req_without_query::v3::ReqWithoutQuery,
        },
    },
};
use pilot_model::mesh::Mesh;
use prost_types::{ListValue, Struct, Value, value::Kind};

const FILE_LOGGER: &str = "envoy.access_loggers.file";
/// Static cluster of the bootstrap that reaches the access log service.
const LOG_SERVICE_CLUSTER: &str = "envoy_accesslog_service";

const DEFAULT_TEXT: &str = concat!(
    "[%START_TIME%] \"%REQ(:METHOD)% %REQ(X-ENVOY-ORIGINAL-PATH?:PATH)% %PROTOCOL%\" ",
    "%RESPONSE_CODE% %RESPONSE_FLAGS% %RESPONSE_CODE_DETAILS% ",
    "%CONNECTION_TERMINATION_DETAILS% \"%UPSTREAM_TRANSPORT_FAILURE_REASON%\" ",
    "%BYTES_RECEIVED% %BYTES_SENT% %DURATION% %RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)% ",
    "\"%REQ(X-FORWARDED-FOR)%\" \"%REQ(USER-AGENT)%\" \"%REQ(X-REQUEST-ID)%\" ",
    "\"%REQ(:AUTHORITY)%\" \"%UPSTREAM_HOST%\" %UPSTREAM_CLUSTER_RAW% ",
    "%UPSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_LOCAL_ADDRESS% %DOWNSTREAM_REMOTE_ADDRESS% ",
    "%REQUESTED_SERVER_NAME% %ROUTE_NAME%\n",
);

const DEFAULT_JSON: &[(&str, &str)] = &[
    ("start_time", "%START_TIME%"),
    ("route_name", "%ROUTE_NAME%"),
    ("method", "%REQ(:METHOD)%"),
    ("path", "%REQ(X-ENVOY-ORIGINAL-PATH?:PATH)%"),
    ("protocol", "%PROTOCOL%"),
    ("response_code", "%RESPONSE_CODE%"),
    ("response_flags", "%RESPONSE_FLAGS%"),
    ("response_code_details", "%RESPONSE_CODE_DETAILS%"),
    (
        "connection_termination_details",
        "%CONNECTION_TERMINATION_DETAILS%",
    ),
    ("bytes_received", "%BYTES_RECEIVED%"),
    ("bytes_sent", "%BYTES_SENT%"),
    ("duration", "%DURATION%"),
    (
        "upstream_service_time",
        "%RESP(X-ENVOY-UPSTREAM-SERVICE-TIME)%",
    ),
    ("x_forwarded_for", "%REQ(X-FORWARDED-FOR)%"),
    ("user_agent", "%REQ(USER-AGENT)%"),
    ("request_id", "%REQ(X-REQUEST-ID)%"),
    ("authority", "%REQ(:AUTHORITY)%"),
    ("upstream_host", "%UPSTREAM_HOST%"),
    ("upstream_cluster", "%UPSTREAM_CLUSTER_RAW%"),
    ("upstream_local_address", "%UPSTREAM_LOCAL_ADDRESS%"),
    ("downstream_local_address", "%DOWNSTREAM_LOCAL_ADDRESS%"),
    ("downstream_remote_address", "%DOWNSTREAM_REMOTE_ADDRESS%"),
    ("requested_server_name", "%REQUESTED_SERVER_NAME%"),
    (
        "upstream_transport_failure_reason",
        "%UPSTREAM_TRANSPORT_FAILURE_REASON%",
    ),
];

/// Access loggers of an HTTP connection manager.
pub fn of_requests(mesh: &Mesh) -> Vec<AccessLog> {
    let service = mesh
        .config
        .enable_envoy_access_log_service
        .then(|| AccessLog {
            name: "envoy.access_loggers.http_grpc".to_owned(),
            config_type: typed(&HttpGrpcAccessLogConfig {
                common_config: Some(service("http_envoy_accesslog")),
                ..Default::default()
            }),
            ..Default::default()
        });
    file(mesh).into_iter().chain(service).collect()
}

/// Access loggers of a TCP proxy.
pub fn of_connections(mesh: &Mesh) -> Vec<AccessLog> {
    let service = mesh
        .config
        .enable_envoy_access_log_service
        .then(|| tcp_service("tcp_envoy_accesslog"));
    file(mesh).into_iter().chain(service).collect()
}

/// Access loggers of a listener, for connections that match no filter chain.
pub fn of_unmatched(mesh: &Mesh) -> Vec<AccessLog> {
    if mesh.config.disable_envoy_listener_log {
        return Vec::new();
    }
    let service = mesh
        .config
        .enable_envoy_access_log_service
        .then(|| tcp_service("listener_envoy_accesslog"));
    let mut logs: Vec<AccessLog> = file(mesh).into_iter().chain(service).collect();
    for log in &mut logs {
        log.filter = Some(AccessLogFilter {
            filter_specifier: Some(FilterSpecifier::ResponseFlagFilter(ResponseFlagFilter {
                flags: vec!["NR".to_owned()],
            })),
        });
    }
    logs
}

fn typed<T: prost::Message + prost::Name>(config: &T) -> Option<access_log::ConfigType> {
    Some(access_log::ConfigType::TypedConfig(any::pack(config)))
}

fn tcp_service(log: &str) -> AccessLog {
    AccessLog {
        name: "envoy.access_loggers.tcp_grpc".to_owned(),
        config_type: typed(&TcpGrpcAccessLogConfig {
            common_config: Some(service(log)),
        }),
        ..Default::default()
    }
}

fn service(log: &str) -> CommonGrpcAccessLogConfig {
    CommonGrpcAccessLogConfig {
        log_name: log.to_owned(),
        transport_api_version: ApiVersion::V3.into(),
        grpc_service: Some(GrpcService {
            target_specifier: Some(grpc_service::TargetSpecifier::EnvoyGrpc(
                grpc_service::EnvoyGrpc {
                    cluster_name: LOG_SERVICE_CLUSTER.to_owned(),
                    ..Default::default()
                },
            )),
            ..Default::default()
        }),
        ..Default::default()
    }
}

fn file(mesh: &Mesh) -> Option<AccessLog> {
    if mesh.access_log_file.is_empty() {
        return None;
    }
    let custom = mesh.access_log_format.as_str();
    let mut format = SubstitutionFormatString::default();
    if mesh.access_log_json {
        let fields = serde_json::from_str(custom)
            .ok()
            .and_then(fields)
            .unwrap_or_else(|| Struct {
                fields: DEFAULT_JSON
                    .iter()
                    .map(|(key, text)| ((*key).to_owned(), string((*text).to_owned())))
                    .collect(),
            });
        format.format = Some(Format::JsonFormat(fields));
        format.json_format_options = Some(JsonFormatOptions::default());
    } else {
        let text = match custom {
            "" => DEFAULT_TEXT.to_owned(),
            custom if custom.ends_with('\n') => custom.to_owned(),
            custom => format!("{custom}\n"),
        };
        format.format = Some(Format::TextFormatSource(DataSource {
            specifier: Some(Specifier::InlineString(text)),
            ..Default::default()
        }));
    }
    if custom.contains("%REQ_WITHOUT_QUERY") {
        format.formatters.push(TypedExtensionConfig {
            name: "envoy.formatter.req_without_query".to_owned(),
            typed_config: Some(any::pack(&ReqWithoutQuery::default())),
        });
    }
    Some(AccessLog {
        name: FILE_LOGGER.to_owned(),
        config_type: typed(&FileAccessLog {
            path: mesh.access_log_file.clone(),
            access_log_format: Some(AccessLogFormat::LogFormat(format)),
        }),
        ..Default::default()
    })
}

fn string(text: String) -> Value {
    Value {
        kind: Some(Kind::StringValue(text)),
    }
}

/// A JSON object as a format; `None` for anything else.
fn fields(json: serde_json::Value) -> Option<Struct> {
    match json {
        serde_json::Value::Object(map) => Some(Struct {
            fields: map.into_iter().map(|(key, v)| (key, value(v))).collect(),
        }),
        _ => None,
    }
}

fn value(json: serde_json::Value) -> Value {
    let kind = match json {
        serde_json::Value::Null => Kind::NullValue(0),
        serde_json::Value::Bool(flag) => Kind::BoolValue(flag),
        serde_json::Value::Number(number) => Kind::NumberValue(number.as_f64().unwrap_or(0.0)),
        serde_json::Value::String(text) => Kind::StringValue(text),
        serde_json::Value::Array(list) => Kind::ListValue(ListValue {
            values: list.into_iter().map(value).collect(),
        }),
        serde_json::Value::Object(map) => Kind::StructValue(Struct {
            fields: map.into_iter().map(|(key, v)| (key, value(v))).collect(),
        }),
    };
    Value { kind: Some(kind) }
}

#[cfg(test)]
mod tests {
    use istio_api::mesh::v1alpha1::MeshConfig;

    use super::*;

    fn mesh(config: MeshConfig) -> Mesh {
        Mesh::new(config, "cluster.local")
    }

    #[test]
    fn nothing_is_logged_by_default() {
        assert!(of_requests(&mesh(MeshConfig::default())).is_empty());
        assert!(of_unmatched(&mesh(MeshConfig::default())).is_empty());
    }

    #[test]
    fn listeners_log_only_what_no_chain_took() {
        let config = MeshConfig {
            access_log_file: "/dev/stdout".to_owned(),
            ..Default::default()
        };
        let mesh = mesh(config);
        assert_eq!(of_requests(&mesh).len(), 1);
        assert!(of_requests(&mesh)[0].filter.is_none());
        assert!(of_unmatched(&mesh)[0].filter.is_some());
    }
}
