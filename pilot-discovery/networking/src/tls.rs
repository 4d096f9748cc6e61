//! TLS contexts: between proxies, towards servers outside the mesh, and for clients outside it.
//!
//! One convention for ALPN: mesh clients offer names that begin with `istio`, by which the server
//! distinguishes mesh traffic and its protocol from other TLS. `istio-peer-exchange` is matched but
//! never offered, because stock Envoy cannot speak it.

use istio_api::{
    any,
    envoy::{
        config::core::v3::{TransportSocket, transport_socket::ConfigType},
        extensions::transport_sockets::{
            raw_buffer::v3::RawBuffer,
            tls::v3::{
                SubjectAltNameMatcher, TlsParameters, subject_alt_name_matcher::SanType,
                tls_parameters::TlsProtocol,
            },
        },
        r#type::matcher::v3::{StringMatcher, string_matcher::MatchPattern},
    },
};

pub mod downstream;
pub mod sds;
pub mod upstream;

/// ALPN of mesh clients towards an HTTP/1.1 cluster.
pub const ALPN_MESH_HTTP1: &[&str] = &["istio-http/1.1", "istio", "http/1.1"];
/// ALPN of mesh clients towards an HTTP/2 cluster.
pub const ALPN_MESH_HTTP2: &[&str] = &["istio-h2", "istio", "h2"];
/// ALPN of mesh clients towards anything else.
pub const ALPN_MESH_TCP: &[&str] = &["istio"];
/// ALPN that servers offer.
pub const ALPN_SERVER: &[&str] = &["h2", "http/1.1"];

/// All ALPN names that a mesh client may offer.
pub const ALPN_FROM_MESH: &[&str] = &[
    "istio",
    "istio-peer-exchange",
    "istio-http/1.0",
    "istio-http/1.1",
    "istio-h2",
];
/// Those of HTTP.
pub const ALPN_FROM_MESH_HTTP: &[&str] = &["istio-http/1.0", "istio-http/1.1", "istio-h2"];
/// Those of other protocols.
pub const ALPN_FROM_MESH_TCP: &[&str] = &["istio-peer-exchange", "istio"];

const MESH_CIPHERS: &[&str] = &[
    "ECDHE-ECDSA-AES256-GCM-SHA384",
    "ECDHE-RSA-AES256-GCM-SHA384",
    "ECDHE-ECDSA-AES128-GCM-SHA256",
    "ECDHE-RSA-AES128-GCM-SHA256",
    "AES256-GCM-SHA384",
    "AES128-GCM-SHA256",
];

/// Plain text.
pub fn raw_buffer() -> TransportSocket {
    socket("envoy.transport_sockets.raw_buffer", &RawBuffer::default())
}

fn socket<T: prost::Message + prost::Name>(name: &str, config: &T) -> TransportSocket {
    TransportSocket {
        name: name.to_owned(),
        config_type: Some(ConfigType::TypedConfig(any::pack(config))),
    }
}

fn owned(names: &[&str]) -> Vec<String> {
    names.iter().map(|&name| name.to_owned()).collect()
}

fn mesh_parameters() -> TlsParameters {
    TlsParameters {
        tls_minimum_protocol_version: TlsProtocol::TlSv12.into(),
        tls_maximum_protocol_version: TlsProtocol::TlSv13.into(),
        ..Default::default()
    }
}

fn name_matcher(kind: SanType, pattern: MatchPattern) -> SubjectAltNameMatcher {
    SubjectAltNameMatcher {
        san_type: kind.into(),
        matcher: Some(StringMatcher {
            match_pattern: Some(pattern),
            ..Default::default()
        }),
        ..Default::default()
    }
}
