//! HTTP connection managers of sidecars and gateways.

use istio_api::{
    any,
    envoy::{
        config::{
            core::v3::{
                Http1ProtocolOptions, Http2ProtocolOptions, TypedExtensionConfig,
                http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat},
            },
            listener::v3::Filter,
            route::v3::RouteConfiguration,
        },
        extensions::{
            filters::network::http_connection_manager::v3::{
                HttpConnectionManager, HttpFilter, Rds, RequestIdExtension,
                http_connection_manager::{
                    CodecType, ForwardClientCertDetails, PathWithEscapedSlashesAction,
                    RouteSpecifier, ServerHeaderTransformation, SetCurrentClientCertDetails,
                    UpgradeConfig,
                },
            },
            http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
            request_id::uuid::v3::UuidRequestIdConfig,
        },
    },
    mesh::v1alpha1::{
        ProxyConfig, mesh_config::proxy_path_normalization::NormalizationType,
        proxy_config::ProxyHeaders,
    },
};
use pilot_model::{mesh::Mesh, protocol::Protocol};
use prost_types::Duration;

use super::{
    access_log,
    filter::{self, Chain},
};
use crate::config_source;

/// Value of the `server` header.
const SERVER_NAME: &str = "istio-envoy";

/// Where a connection manager is used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Side {
    /// Requests from the workload to others.
    Outbound,
    /// Requests from others to the workload.
    Inbound,
    /// Requests through a gateway.
    Gateway,
}

/// Where its routes come from.
#[derive(Clone, Debug)]
pub enum Routes {
    /// A route configuration of this name, fetched over ADS.
    Named(String),
    /// Part of the listener.
    Inline(Box<RouteConfiguration>),
}

/// What differs between connection managers.
#[derive(Clone, Debug)]
pub struct Options<'a> {
    /// The mesh settings.
    pub mesh: &'a Mesh,
    /// Where requests come from.
    pub side: Side,
    /// Prefix of its statistics.
    pub stat_prefix: String,
    /// Where the routes come from.
    pub routes: Routes,
    /// Protocol of the port; decides about gRPC-Web and HTTP/2 options.
    pub protocol: Protocol,
    /// HTTP/1.0 requests are accepted.
    pub http10: bool,
    /// Request targets are absolute URLs (explicit HTTP proxy).
    pub absolute_urls: bool,
    /// Checks of the caller, in order, before all other filters.
    pub security: Vec<HttpFilter>,
}

/// Builds the network filter.
pub fn filter(options: Options<'_>) -> Filter {
    filter::network(filter::HTTP_CONNECTION_MANAGER, &build(options))
}

/// Builds the configuration of the filter.
pub fn build(options: Options<'_>) -> HttpConnectionManager {
    let Options { mesh, side, .. } = options;
    let proxy = mesh.config.default_config.as_ref();
    let headers = proxy.and_then(|proxy| proxy.proxy_headers.as_ref());
    let suppress_envoy_headers = headers
        .and_then(|h| h.envoy_debug_headers.as_ref()?.disabled)
        .unwrap_or(false);
    let mut manager = HttpConnectionManager {
        codec_type: CodecType::Auto.into(),
        stat_prefix: options.stat_prefix,
        route_specifier: Some(match options.routes {
            Routes::Named(name) => RouteSpecifier::Rds(Rds {
                config_source: Some(config_source::ads()),
                route_config_name: name,
            }),
            Routes::Inline(config) => RouteSpecifier::RouteConfig(*config),
        }),
        http_filters: Chain {
            security: options.security,
            grpc_web: options.protocol == Protocol::GrpcWeb,
            client_side: side != Side::Inbound,
            suppress_envoy_headers,
        }
        .build(),
        use_remote_address: Some(side == Side::Gateway),
        upgrade_configs: vec![UpgradeConfig {
            upgrade_type: "websocket".to_owned(),
            ..Default::default()
        }],
        stream_idle_timeout: Some(Duration::default()),
        proxy_100_continue: true,
        generate_request_id: headers
            .and_then(|h| h.request_id.as_ref()?.disabled)
            .unwrap_or(false)
            .then_some(false),
        append_x_forwarded_port: headers
            .and_then(|h| h.x_forwarded_port.as_ref()?.enabled)
            .unwrap_or(false),
        request_id_extension: Some(RequestIdExtension {
            typed_config: Some(any::pack(&UuidRequestIdConfig {
                use_request_id_for_trace_sampling: Some(true),
                ..Default::default()
            })),
        }),
        access_log: access_log::of_requests(mesh),
        ..Default::default()
    };
    normalize_paths(&mut manager, mesh);
    name_server(&mut manager, side, headers);
    forward_certificates(&mut manager, side, proxy);

    let preserve_case = headers
        .and_then(|h| h.preserve_http1_header_case)
        .unwrap_or(false);
    if options.http10 || options.absolute_urls || preserve_case || side == Side::Gateway {
        manager.http_protocol_options = Some(Http1ProtocolOptions {
            allow_absolute_url: options.absolute_urls.then_some(true),
            accept_http_10: options.http10,
            header_key_format: preserve_case.then(keep_case),
            ..Default::default()
        });
    }
    if side == Side::Inbound && options.protocol.is_http2() {
        manager.http2_protocol_options = Some(Http2ProtocolOptions::default());
    }
    if side == Side::Gateway {
        manager.xff_num_trusted_hops = proxy
            .and_then(|proxy| proxy.gateway_topology.as_ref())
            .map_or(0, |topology| topology.num_trusted_proxies);
    }
    manager
}

fn keep_case() -> HeaderKeyFormat {
    HeaderKeyFormat {
        header_format: Some(HeaderFormat::StatefulFormatter(TypedExtensionConfig {
            name: "envoy.http.stateful_header_formatters.preserve_case".to_owned(),
            typed_config: Some(any::pack(&PreserveCaseFormatterConfig::default())),
        })),
    }
}

fn normalize_paths(manager: &mut HttpConnectionManager, mesh: &Mesh) {
    let mode = mesh
        .config
        .path_normalization
        .as_ref()
        .map_or(NormalizationType::Default, |paths| paths.normalization());
    manager.normalize_path = Some(mode != NormalizationType::None);
    manager.merge_slashes = matches!(
        mode,
        NormalizationType::MergeSlashes | NormalizationType::DecodeAndMergeSlashes
    );
    manager.path_with_escaped_slashes_action = if mode == NormalizationType::DecodeAndMergeSlashes {
        PathWithEscapedSlashesAction::UnescapeAndForward.into()
    } else {
        PathWithEscapedSlashesAction::KeepUnchanged.into()
    };
}

fn name_server(manager: &mut HttpConnectionManager, side: Side, headers: Option<&ProxyHeaders>) {
    let server = headers.and_then(|headers| headers.server.as_ref());
    if server.and_then(|server| server.disabled) == Some(true) {
        manager.server_header_transformation = ServerHeaderTransformation::PassThrough.into();
        return;
    }
    manager.server_name = match server.map(|server| server.value.as_str()) {
        Some(name) if !name.is_empty() => name.to_owned(),
        _ if side == Side::Outbound => String::new(),
        _ => SERVER_NAME.to_owned(),
    };
}

/// What servers learn about the client's certificate.
fn forward_certificates(
    manager: &mut HttpConnectionManager,
    side: Side,
    proxy: Option<&ProxyConfig>,
) {
    let headers = proxy.and_then(|proxy| proxy.proxy_headers.as_ref());
    let (asked, default) = match side {
        Side::Outbound => return,
        Side::Inbound => (
            headers.map_or(0, |headers| headers.forwarded_client_cert),
            ForwardClientCertDetails::AppendForward,
        ),
        Side::Gateway => (
            proxy
                .and_then(|proxy| proxy.gateway_topology.as_ref())
                .map_or(0, |topology| topology.forward_client_cert_details),
            ForwardClientCertDetails::SanitizeSet,
        ),
    };
    // The enum of the mesh config begins with UNDEFINED, which Envoy's does not have.
    let mode = ForwardClientCertDetails::try_from(asked - 1).unwrap_or(default);
    manager.forward_client_cert_details = mode.into();
    if !matches!(
        mode,
        ForwardClientCertDetails::AppendForward | ForwardClientCertDetails::SanitizeSet
    ) {
        return;
    }
    let set = headers.and_then(|headers| headers.set_current_client_cert_details.as_ref());
    manager.set_current_client_cert_details = Some(match side {
        Side::Gateway => SetCurrentClientCertDetails {
            subject: Some(true),
            cert: true,
            dns: true,
            uri: true,
            ..Default::default()
        },
        _ => SetCurrentClientCertDetails {
            subject: Some(set.and_then(|set| set.subject).unwrap_or(true)),
            cert: set.and_then(|set| set.cert).unwrap_or(false),
            chain: set.and_then(|set| set.chain).unwrap_or(false),
            dns: set.and_then(|set| set.dns).unwrap_or(true),
            uri: set.and_then(|set| set.uri).unwrap_or(true),
            ..Default::default()
        },
    });
}
