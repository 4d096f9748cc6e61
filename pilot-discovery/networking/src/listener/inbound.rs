//! Inbound listeners of sidecars: one for all captured connections, with filter chains per port.
//!
//! Which chains a port has follows from what it speaks and from its mutual TLS mode, see
//! [`chain`]. Envoy does not look further once a port has chains: what fits none of them is
//! closed.

use istio_api::envoy::config::{
    core::v3::TrafficDirection,
    listener::v3::{FilterChain, FilterChainMatch, Listener},
};
use pilot_model::{
    authn::WorkloadMtls,
    class::{InboundClass, Server},
    mesh::Mesh,
    proxy::Interception,
};
use prost_types::Duration;

use super::{access_log, filter, tcp};
use crate::{
    name,
    resource::{Built, Key, Resource, Skipped, sources},
};

pub mod chain;
mod inspection;
mod port;

use chain::Server as Chains;
use inspection::Needs;
use port::Port;

use super::outbound::ACCEPTS_PER_EVENT;

/// Everything that the inbound listeners depend on.
#[derive(Clone, Debug)]
pub struct Inputs<'a> {
    mesh: &'a Mesh,
    class: &'a InboundClass,
    mtls: WorkloadMtls,
    /// Captured ports and ports with a socket of their own, by number.
    ports: Vec<Port>,
    skipped: Vec<Skipped>,
}

impl Inputs<'_> {
    pub fn key(&self) -> u128 {
        let mut key = Key::new("inbound listeners")
            .with(self.mesh.version())
            .with((
                self.class.ip_mode,
                self.class.interception,
                self.class.http10,
            ))
            .with(&self.mtls);
        for port in &self.ports {
            port.add_to(&mut key);
        }
        for skipped in &self.skipped {
            key.add(&skipped.reason);
        }
        key.finish()
    }
}

pub fn gather<'a>(server: &Server<'a>) -> Inputs<'a> {
    let (ports, skipped) = port::collect(server);
    Inputs {
        mesh: &server.snapshot.mesh,
        class: server.class,
        mtls: server.mtls(),
        ports,
        skipped,
    }
}

/// All inbound listeners of a workload.
pub fn build(server: &Server<'_>) -> Built {
    build_from(&gather(server))
}

/// As [`build`], from what was gathered.
pub fn build_from(inputs: &Inputs<'_>) -> Built {
    let mut built = Built {
        skipped: inputs.skipped.clone(),
        ..Default::default()
    };
    if inputs.mesh.outbound_port == 0 {
        return built;
    }
    if inputs.class.interception != Interception::None {
        built.resources.push(virtual_inbound(inputs));
    }
    for port in inputs.ports.iter().filter(|port| port.bind.is_some()) {
        built.resources.push(bound(inputs, port));
    }
    built
}

fn virtual_inbound(inputs: &Inputs<'_>) -> Resource {
    let Inputs {
        mesh, class, mtls, ..
    } = inputs;
    let mut chains = vec![FilterChain {
        name: name::INBOUND_BLACKHOLE_CHAIN.to_owned(),
        filter_chain_match: Some(FilterChainMatch {
            destination_port: Some(mesh.inbound_port),
            ..Default::default()
        }),
        filters: tcp::to_cluster_unlogged(name::BLACK_HOLE_CLUSTER),
        ..Default::default()
    }];
    let passthrough = |matched| Chains::passthrough(matched, class.http10);
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
        servers.push((Chains::of_port(port, class), mtls.port(port.number)));
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
    let tproxy = class.interception == Interception::Tproxy;
    if tproxy {
        listener_filters.push(filter::original_src());
    }
    listener_filters.extend(inspection::inspectors(&needs));
    let listener = Listener {
        name: name::VIRTUAL_INBOUND.to_owned(),
        address: Some(filter::socket(class.ip_mode.wildcard(), mesh.inbound_port)),
        transparent: tproxy.then_some(true),
        ..base(mesh, listener_filters, chains)
    };
    let refs = captured
        .iter()
        .flat_map(|port| port.sources.iter().cloned())
        .chain(mtls.sources.iter().cloned());
    Resource::new(name::VIRTUAL_INBOUND, &listener, sources(refs))
}

/// A port that has a socket of its own.
fn bound(inputs: &Inputs<'_>, port: &Port) -> Resource {
    let Inputs {
        mesh, class, mtls, ..
    } = inputs;
    let bind = port
        .bind
        .as_deref()
        .unwrap_or_else(|| class.ip_mode.wildcard());
    let (server, mode) = (Chains::of_port(port, class), mtls.port(port.number));
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
