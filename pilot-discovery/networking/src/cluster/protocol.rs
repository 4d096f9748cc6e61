//! HTTP version of upstream connections, and their HTTP options.

use istio_api::any;
use istio_api::{
    envoy::{
        config::{
            cluster::v3::Cluster,
            core::v3::{
                Http1ProtocolOptions, Http2ProtocolOptions, HttpProtocolOptions as CommonOptions,
                TypedExtensionConfig, UpstreamHttpProtocolOptions,
                http1_protocol_options::{HeaderKeyFormat, header_key_format::HeaderFormat},
            },
        },
        extensions::{
            http::header_formatters::preserve_case::v3::PreserveCaseFormatterConfig,
            upstreams::http::v3::{
                HttpProtocolOptions,
                http_protocol_options::{
                    ExplicitHttpConfig, UpstreamProtocolOptions, UseDownstreamHttpConfig,
                    explicit_http_config::ProtocolConfig,
                },
            },
        },
    },
    mesh::v1alpha1::mesh_config::H2UpgradePolicy as MeshUpgrade,
    networking::v1alpha3::connection_pool_settings::http_settings::H2UpgradePolicy,
};
use pilot_model::{mesh::Mesh, protocol::Protocol, proxy::ProxyType};

use super::{extension_options, positive};
use crate::policy::Policy;
use crate::tls::{ALPN_MESH_HTTP1, ALPN_MESH_HTTP2, ALPN_MESH_TCP};

/// HTTP version that a cluster uses upstream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upstream {
    /// HTTP/1.1, as nothing asks for more; needs no options.
    Http1,
    /// HTTP/1.1, even if the mesh upgrades to HTTP/2.
    ExplicitHttp1,
    /// HTTP/2.
    Http2,
    /// The version that the client uses.
    AsDownstream,
}

/// Decides which version an outbound cluster of a port with `protocol` uses.
pub fn outbound(policy: &Policy<'_>, protocol: Protocol, kind: ProxyType, mesh: &Mesh) -> Upstream {
    if let Some(decided) = either_way(policy, protocol, kind, mesh) {
        return decided;
    }
    let upgrade = policy
        .http()
        .map(|http| http.h2_upgrade_policy())
        .unwrap_or_default();
    match upgrade {
        H2UpgradePolicy::Upgrade => Upstream::Http2,
        H2UpgradePolicy::DoNotUpgrade => Upstream::Http1,
        H2UpgradePolicy::Default => {
            if protocol.is_http() && mesh.config.h2_upgrade_policy() == MeshUpgrade::Upgrade {
                Upstream::Http2
            } else {
                Upstream::Http1
            }
        }
    }
}

/// Decides which version an inbound cluster uses towards its application.
pub(super) fn inbound(policy: &Policy<'_>, protocol: Protocol, mesh: &Mesh) -> Upstream {
    either_way(policy, protocol, ProxyType::Sidecar, mesh).unwrap_or(Upstream::Http1)
}

fn either_way(
    policy: &Policy<'_>,
    protocol: Protocol,
    kind: ProxyType,
    mesh: &Mesh,
) -> Option<Upstream> {
    if policy.uses_client_protocol() {
        Some(Upstream::AsDownstream)
    } else if protocol.is_http2() {
        Some(Upstream::Http2)
    } else if protocol.is_auto() && kind == ProxyType::Sidecar {
        Some(Upstream::AsDownstream)
    } else if protocol.is_http() && preserves_case(mesh) {
        Some(Upstream::ExplicitHttp1)
    } else {
        None
    }
}

/// ALPN that mesh clients offer through such a cluster; where the version follows the client, the
/// route overrides it per request.
pub fn mesh_alpn(upstream: Upstream, protocol: Protocol) -> &'static [&'static str] {
    match upstream {
        Upstream::Http2 if protocol.is_http() => ALPN_MESH_HTTP2,
        Upstream::Http1 | Upstream::ExplicitHttp1 if protocol.is_http() => ALPN_MESH_HTTP1,
        _ => ALPN_MESH_TCP,
    }
}

/// Whether server name and certificate name follow each request.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct AutoNames {
    pub(super) sni: bool,
    pub(super) san_validation: bool,
}

/// The HTTP options; `None` when all of them are Envoy's defaults.
pub(super) fn options(
    upstream: Upstream,
    policy: &Policy<'_>,
    protocol: Protocol,
    names: AutoNames,
    mesh: &Mesh,
) -> Option<HttpProtocolOptions> {
    let (tcp, http) = (policy.tcp(), policy.http());
    let common = CommonOptions {
        idle_timeout: http
            .and_then(|http| http.idle_timeout)
            .or_else(|| tcp.and_then(|tcp| tcp.idle_timeout)),
        max_connection_duration: tcp.and_then(|tcp| tcp.max_connection_duration),
        max_requests_per_connection: http.and_then(|h| positive(h.max_requests_per_connection)),
        ..Default::default()
    };
    let common = (common != CommonOptions::default()).then_some(common);
    let upstream_options = (names != AutoNames::default()).then(|| UpstreamHttpProtocolOptions {
        auto_sni: names.sni,
        auto_san_validation: names.san_validation,
        ..Default::default()
    });
    if upstream == Upstream::Http1 && common.is_none() && upstream_options.is_none() {
        return None;
    }
    let preserve = preserves_case(mesh) && (protocol.is_http() || protocol.is_auto());
    let version = match upstream {
        Upstream::Http1 | Upstream::ExplicitHttp1 => {
            explicit(ProtocolConfig::HttpProtocolOptions(http1(preserve)))
        }
        Upstream::Http2 => explicit(ProtocolConfig::Http2ProtocolOptions(Http2ProtocolOptions {
            max_concurrent_streams: http.and_then(|h| positive(h.max_concurrent_streams)),
            ..Default::default()
        })),
        Upstream::AsDownstream => as_downstream(preserve),
    };
    Some(HttpProtocolOptions {
        common_http_protocol_options: common,
        upstream_http_protocol_options: upstream_options,
        upstream_protocol_options: Some(version),
        ..Default::default()
    })
}

pub(super) fn set(cluster: &mut Cluster, options: Option<HttpProtocolOptions>) {
    if let Some(options) = options {
        cluster.typed_extension_protocol_options = extension_options(&options);
    }
}

/// Options to use the client's version, HTTP/1.1 or HTTP/2.
pub(super) fn as_downstream(preserve_case: bool) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::UseDownstreamProtocolConfig(UseDownstreamHttpConfig {
        http_protocol_options: Some(http1(preserve_case)),
        http2_protocol_options: Some(Http2ProtocolOptions::default()),
        ..Default::default()
    })
}

fn explicit(config: ProtocolConfig) -> UpstreamProtocolOptions {
    UpstreamProtocolOptions::ExplicitHttpConfig(ExplicitHttpConfig {
        protocol_config: Some(config),
    })
}

fn http1(preserve_case: bool) -> Http1ProtocolOptions {
    Http1ProtocolOptions {
        header_key_format: preserve_case.then(|| HeaderKeyFormat {
            header_format: Some(HeaderFormat::StatefulFormatter(TypedExtensionConfig {
                name: "preserve_case".to_owned(),
                typed_config: Some(any::pack(&PreserveCaseFormatterConfig::default())),
            })),
        }),
        ..Default::default()
    }
}

fn preserves_case(mesh: &Mesh) -> bool {
    mesh.config
        .default_config
        .as_ref()
        .and_then(|config| config.proxy_headers.as_ref())
        .and_then(|headers| headers.preserve_http1_header_case)
        .unwrap_or(false)
}
