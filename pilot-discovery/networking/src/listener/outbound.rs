//! Outbound listeners of sidecars.
//!
//! One port number is one unit of work, as all possible conflicts are on one port.
//!
//! ```text
//! services on the port, oldest first ─► claims (address, protocol) ─► one entry per address
//!                                                                       └─► Listener
//! ```

use std::collections::BTreeSet;

use istio_api::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChain, FilterChainMatch, Listener},
};
use pilot_model::{
    class::Client,
    proxy::{Interception, ProxyType},
};
use prost_types::Duration;

use super::{
    access_log, filter,
    http_connection_manager::{self as manager, Routes, Side},
    tcp,
};
use crate::{
    name,
    resource::{Built, Resource},
    route::outbound::fallback::Fallback,
};

pub mod address;
mod claim;
mod entry;

pub use claim::{Inputs, gather_port};

/// How many connections a listener accepts at once before other events are handled.
pub(crate) const ACCEPTS_PER_EVENT: u32 = 1;

/// Port numbers on which this class has listeners; 0 stands for Unix sockets.
pub fn ports(client: &Client<'_>) -> BTreeSet<u32> {
    let of_services = client.scope.by_port.keys().copied();
    let of_sidecar = client
        .scope
        .listeners
        .iter()
        .filter_map(|l| l.port.as_ref().map(|port| port.number));
    of_services.chain(of_sidecar).collect()
}

/// Builds all listeners on one port number.
pub fn build(inputs: &Inputs<'_>) -> Built {
    let mut skipped = inputs.skipped.clone();
    let entries = entry::merge(inputs, &mut skipped);
    let resources = entries
        .into_iter()
        .map(|(address, entry)| entry.into_resource(inputs, &address))
        .collect();
    Built { resources, skipped }
}

/// The listener that accepts captured connections. It hands them over to the listener of the
/// dialled address; without such a listener the outbound traffic policy decides.
///
/// `None` if nothing is captured.
pub fn virtual_outbound(client: &Client<'_>) -> Option<Resource> {
    let mesh = &client.snapshot.mesh;
    let class = client.class;
    if class.kind != ProxyType::Sidecar
        || class.interception == Interception::None
        || mesh.outbound_port == 0
    {
        return None;
    }
    let fallback = Fallback::of(client);
    let listener = Listener {
        name: name::VIRTUAL_OUTBOUND.to_owned(),
        traffic_direction: TrafficDirection::Outbound.into(),
        address: Some(filter::socket(class.ip_mode.wildcard(), mesh.outbound_port)),
        use_original_dst: Some(true),
        transparent: (class.interception == Interception::Tproxy).then_some(true),
        max_connections_to_accept_per_socket_event: Some(ACCEPTS_PER_EVENT),
        access_log: access_log::of_unmatched(mesh),
        filter_chains: vec![
            FilterChain {
                name: name::OUTBOUND_BLACKHOLE_CHAIN.to_owned(),
                filter_chain_match: Some(FilterChainMatch {
                    destination_port: Some(mesh.outbound_port),
                    ..Default::default()
                }),
                filters: tcp::to_cluster_unlogged(name::BLACK_HOLE_CLUSTER),
                ..Default::default()
            },
            FilterChain {
                name: name::OUTBOUND_CATCHALL_CHAIN.to_owned(),
                filters: tcp::to_cluster(&fallback.cluster, mesh),
                ..Default::default()
            },
        ],
        ..Default::default()
    };
    let sources: Vec<_> = client
        .scope
        .sidecar
        .iter()
        .map(|sidecar| sidecar.reference.clone())
        .collect();
    Some(Resource::new(name::VIRTUAL_OUTBOUND, &listener, sources))
}

/// The explicit HTTP proxy on loopback; `None` unless the mesh config has a port for it.
pub fn http_proxy(client: &Client<'_>) -> Option<Resource> {
    let mesh = &client.snapshot.mesh;
    let class = client.class;
    if class.kind != ProxyType::Sidecar || mesh.http_proxy_port == 0 || mesh.outbound_port == 0 {
        return None;
    }
    let name = name::listener(class.ip_mode.loopback(), mesh.http_proxy_port);
    let http = manager::filter(manager::Options {
        mesh,
        side: Side::Outbound,
        stat_prefix: name::outbound_stat_prefix(&name),
        routes: Routes::Named(name::HTTP_PROXY_ROUTE.to_owned()),
        protocol: pilot_model::protocol::Protocol::HttpProxy,
        http10: class.http10,
        absolute_urls: true,
        security: Vec::new(),
    });
    let listener = Listener {
        name: name.clone(),
        traffic_direction: TrafficDirection::Outbound.into(),
        address: Some(filter::socket(
            class.ip_mode.loopback(),
            mesh.http_proxy_port,
        )),
        max_connections_to_accept_per_socket_event: Some(ACCEPTS_PER_EVENT),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Some(Duration::default()),
        filter_chains: vec![FilterChain {
            filters: vec![http],
            transport_socket_connect_timeout: Some(tcp::HANDSHAKE_TIMEOUT),
            ..Default::default()
        }],
        ..Default::default()
    };
    Some(Resource::new(name, &listener, []))
}
