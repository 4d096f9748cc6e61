//! Source address of connections from a sidecar to its application.

use istio_api::envoy::config::core::v3::{
    BindConfig, ExtraSourceAddress, SocketAddress, socket_address::PortSpecifier,
};
use pilot_model::proxy::IpMode;

use super::is_dual;

/// The source address that tells traffic capture that a connection already passed the proxy.
pub(super) fn inbound(ip_mode: IpMode) -> BindConfig {
    let address = |address: &str| SocketAddress {
        address: address.to_owned(),
        port_specifier: Some(PortSpecifier::PortValue(0)),
        ..Default::default()
    };
    BindConfig {
        source_address: Some(address(ip_mode.inbound_source())),
        extra_source_addresses: if is_dual(ip_mode) {
            let second = IpMode::V6.inbound_source();
            vec![ExtraSourceAddress {
                address: Some(address(second)),
                ..Default::default()
            }]
        } else {
            Vec::new()
        },
        ..Default::default()
    }
}
