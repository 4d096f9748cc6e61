//! Inbound listeners of sidecars: one for all captured connections, with filter chains per port.
//!
//! The filter chains of a port follow from its protocol and its mutual TLS mode, see [`chain`].
//! Once a port has chains, Envoy does not look at others: it closes connections that match none of
//! them.

use istio_api::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChain, FilterChainMatch, Listener},
};
use pilot_model::{
    authn::WorkloadMtls,
    class::Server,
    hashed::Hashed,
    mesh::Mesh,
    proxy::{Interception, IpMode},
};
use prost_types::Duration;

use super::{access_log, filter, tcp};
use crate::{
    name,
    resource::{Built, Resource, Skipped, sources},
};

pub mod chain;
mod inspection;
mod port;

use chain::Server as Chains;
use inspection::Needs;
use port::Port;

use super::outbound::ACCEPTS_PER_EVENT;

/// Everything that the inbound listeners depend on; the whole struct is the cache key.
#[derive(Clone, Debug, Hash)]
pub struct Inputs<'a> {
    mesh: &'a Hashed<Mesh>,
    ip_mode: IpMode,
    interception: Interception,
    http10: bool,
    mtls: WorkloadMtls,
    /// Captured ports and ports with a socket of their own, by number.
    ports: Vec<Port>,
    skipped: Vec<Skipped>,
}

/// Collects what the inbound listeners of a workload depend on.
pub fn gather<'a>(server: &Server<'a>) -> Inputs<'a> {
    let (ports, skipped) = port::collect(server);
    Inputs {
        mesh: &server.snapshot.mesh,
        ip_mode: server.class.ip_mode,
        interception: server.class.interception,
        http10: server.class.http10,
        mtls: server.mtls(),
        ports,
        skipped,
    }
}

/// All inbound listeners of a workload.
pub fn build(inputs: &Inputs<'_>) -> Built {
    let mut built = Built {
        skipped: inputs.skipped.clone(),
        ..Default::default()
    };
    if inputs.mesh.outbound_port == 0 {
        return built;
    }
    if inputs.interception != Interception::None {
        built.resources.push(virtual_inbound(inputs));
    }
    for port in inputs.ports.iter().filter(|port| port.bind.is_some()) {
        built.resources.push(bound(inputs, port));
    }
    built
}

fn virtual_inbound(inputs: &Inputs<'_>) -> Resource {
    let Inputs { mesh, mtls, .. } = inputs;
    let mut chains = vec![FilterChain {
        name: name::INBOUND_BLACKHOLE_CHAIN.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(mesh.inbound_port),
            ..Default::default()
        }),
        filters: tcp::to_cluster_unlogged(name::BLACK_HOLE_CLUSTER),
        ..Default::default()
    }];
    let passthrough = |matched| Chains::passthrough(matched, inputs.http10);
    let mut servers = vec![(passthrough(None), mtls.default)];
    let captured: Vec<&Port> = inputs
        .ports
        .iter()
        .filter(|port| port.bind.is_none())
        .collect();
    for (number, mode) in &mtls.ports {
        if !captured.iter().any(|port| port.number == *number) {
            servers.push((passthrough(Some(*number)), *mode));
        }
    }
    for port in &captured {
        servers.push((
            Chains::of_port(port, inputs.ip_mode, inputs.http10),
            mtls.port(port.number),
        ));
    }
    let mut needs = vec![Needs {
        port: Some(mesh.inbound_port),
        tls: false,
        http: false,
    }];
    for (server, mode) in &servers {
        chains.extend(server.build(*mode, mesh));
        needs.push(server.needs(*mode));
    }

    let mut listener_filters = vec![filter::original_dst()];
    let tproxy = inputs.interception == Interception::Tproxy;
    if tproxy {
        listener_filters.push(filter::original_src());
    }
    listener_filters.extend(inspection::inspectors(&needs));
    let listener = Listener {
        name: name::VIRTUAL_INBOUND.to_owned(),
        address: Some(filter::socket(inputs.ip_mode.wildcard(), mesh.inbound_port)),
        transparent: tproxy.then_some(true),
        ..base(mesh, listener_filters, chains)
    };
    let refs = captured
        .iter()
        .flat_map(|port| port.sources.iter().cloned())
        .chain(mtls.sources.iter().cloned());
    Resource::new(name::VIRTUAL_INBOUND, &listener, sources(refs))
}

/// The listener of a port with a socket of its own.
fn bound(inputs: &Inputs<'_>, port: &Port) -> Resource {
    let Inputs { mesh, mtls, .. } = inputs;
    let bind = port
        .bind
        .as_deref()
        .unwrap_or_else(|| inputs.ip_mode.wildcard());
    let (server, mode) = (
        Chains::of_port(port, inputs.ip_mode, inputs.http10),
        mtls.port(port.number),
    );
    let chains = server.build(mode, mesh);
    let name = name::listener(bind, port.number);
    let listener = Listener {
        name: name.clone(),
        address: Some(filter::socket(bind, port.number)),
        ..base(mesh, inspection::inspectors(&[server.needs(mode)]), chains)
    };
    let refs = port.sources.iter().chain(&mtls.sources).cloned();
    Resource::new(name, &listener, sources(refs))
}

fn base(
    mesh: &Mesh,
    listener_filters: Vec<istio_api::envoy::config::listener::v3::ListenerFilter>,
    filter_chains: Vec<FilterChain>,
) -> Listener {
    Listener {
        traffic_direction: TrafficDirection::Inbound.into(),
        continue_on_listener_filters_timeout: true,
        listener_filters_timeout: Duration::try_from(mesh.protocol_detection_timeout).ok(),
        max_connections_to_accept_per_socket_event: Some(ACCEPTS_PER_EVENT),
        access_log: access_log::of_unmatched(mesh),
        listener_filters,
        filter_chains,
        ..Default::default()
    }
}
