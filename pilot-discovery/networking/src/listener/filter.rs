//! Listener, network and HTTP filters, and the order of the latter.

use istio_api::{
    any,
    envoy::{
        config::{
            core::v3::{Address, CidrRange, SocketAddress, address, socket_address::PortSpecifier},
            listener::v3::{Filter, ListenerFilter, filter, listener_filter},
        },
        extensions::filters::{
            http::{
                cors::v3::Cors,
                fault::v3::HttpFault,
                grpc_stats::v3::{
                    FilterConfig as GrpcStats, filter_config::PerMethodStatSpecifier,
                },
                grpc_web::v3::GrpcWeb,
                router::v3::Router,
                set_filter_state::v3::Config as SetFilterState,
            },
            listener::{
                http_inspector::v3::HttpInspector, original_dst::v3::OriginalDst,
                original_src::v3::OriginalSrc, tls_inspector::v3::TlsInspector,
            },
            network::http_connection_manager::v3::{HttpFilter, http_filter},
        },
    },
};
use prost::{Message, Name};

use crate::name;

/// Network filter that routes requests.
pub const HTTP_CONNECTION_MANAGER: &str = "envoy.filters.network.http_connection_manager";
/// Network filter that forwards connections.
pub const TCP_PROXY: &str = "envoy.filters.network.tcp_proxy";

/// Number of bytes that the TLS inspector reads first: enough for most ClientHellos.
const TLS_INSPECTOR_BYTES: u32 = 512;
/// Socket mark of connections that the proxy makes under their client's address.
const ORIGINAL_SRC_MARK: u32 = 1337;

/// Options that decide which HTTP filters a connection manager has.
#[derive(Clone, Debug, Default)]
pub struct Chain {
    /// Checks of the caller, in order: external authorization, tokens, then rules.
    pub security: Vec<HttpFilter>,
    /// The port speaks gRPC-Web.
    pub grpc_web: bool,
    /// Requests leave for other workloads here.
    pub client_side: bool,
    /// Envoy's own headers are not sent to servers.
    pub suppress_envoy_headers: bool,
}

impl Chain {
    /// The filters in their fixed order; the router is last.
    pub fn build(self) -> Vec<HttpFilter> {
        let mut filters = self.security;
        if self.grpc_web {
            filters.push(http("envoy.filters.http.grpc_web", &GrpcWeb::default()));
        }
        filters.push(http(
            "envoy.filters.http.grpc_stats",
            &GrpcStats {
                emit_filter_state: true,
                per_method_stat_specifier: Some(PerMethodStatSpecifier::StatsForAllMethods(false)),
                ..Default::default()
            },
        ));
        if self.client_side {
            filters.push(http(name::ALPN_FILTER, &SetFilterState::default()));
        }
        filters.push(http("envoy.filters.http.fault", &HttpFault::default()));
        filters.push(http("envoy.filters.http.cors", &Cors::default()));
        filters.push(http(
            "envoy.filters.http.router",
            &Router {
                suppress_envoy_headers: self.suppress_envoy_headers,
                ..Default::default()
            },
        ));
        filters
    }
}

/// An HTTP filter with its configuration.
pub fn http<T: Message + Name>(name: &str, config: &T) -> HttpFilter {
    HttpFilter {
        name: name.to_owned(),
        config_type: Some(http_filter::ConfigType::TypedConfig(any::pack(config))),
        ..Default::default()
    }
}

/// A network filter with its configuration.
pub fn network<T: Message + Name>(name: &str, config: &T) -> Filter {
    Filter {
        name: name.to_owned(),
        config_type: Some(filter::ConfigType::TypedConfig(any::pack(config))),
    }
}

fn listener<T: Message + Name>(name: &str, config: &T) -> ListenerFilter {
    ListenerFilter {
        name: name.to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any::pack(config))),
        ..Default::default()
    }
}

/// Reads server name and ALPN from the first bytes of a TLS connection.
pub fn tls_inspector() -> ListenerFilter {
    listener(
        "envoy.filters.listener.tls_inspector",
        &TlsInspector {
            initial_read_buffer_size: Some(TLS_INSPECTOR_BYTES),
            ..Default::default()
        },
    )
}

/// Detects HTTP by the first bytes of a plain-text connection.
pub fn http_inspector() -> ListenerFilter {
    listener(
        "envoy.filters.listener.http_inspector",
        &HttpInspector::default(),
    )
}

/// Restores the address that the client dialled before the connection was redirected.
pub fn original_dst() -> ListenerFilter {
    listener(
        "envoy.filters.listener.original_dst",
        &OriginalDst::default(),
    )
}

/// Makes upstream connections with the client's source address (TPROXY).
pub fn original_src() -> ListenerFilter {
    listener(
        "envoy.filters.listener.original_src",
        &OriginalSrc {
            mark: ORIGINAL_SRC_MARK,
            ..Default::default()
        },
    )
}

/// Address of a TCP socket.
pub fn socket(address: &str, port: u32) -> Address {
    Address {
        address: Some(address::Address::SocketAddress(SocketAddress {
            address: address.to_owned(),
            port_specifier: Some(PortSpecifier::PortValue(port)),
            ..Default::default()
        })),
    }
}

/// Parses an IP address or CIDR range and clears the bits beyond its prefix; `None` when it is
/// neither.
pub fn cidr(text: &str) -> Option<CidrRange> {
    let net: ipnet::IpNet = match text.parse() {
        Ok(net) => net,
        Err(_) => text.parse::<std::net::IpAddr>().ok()?.into(),
    };
    Some(CidrRange {
        address_prefix: net.network().to_string(),
        prefix_len: Some(net.prefix_len().into()),
    })
}
