//! One listener per address, and the resolution of conflicts between services.

use std::{collections::BTreeMap, sync::Arc};

use istio_api::envoy::config::{
    core::v3::{Address, Pipe, TrafficDirection, address},
    listener::v3::{FilterChain, FilterChainMatch, Listener},
};
use pilot_model::{config::ConfigRef, protocol::Protocol, virtual_service::MESH_GATEWAY};
use prost_types::Duration;

use super::{
    ACCEPTS_PER_EVENT,
    address::{self as arrivals, Arrival},
    claim::{Claim, Inputs, L4},
};
use crate::{
    listener::{
        filter,
        http_connection_manager::{self as manager, Routes, Side},
        tcp::{self, Chain},
    },
    name::{self, SidecarRoute},
    resource::{Resource, Skipped, sources},
    route::destination::Resolved,
};

const CONFLICT: &str = "pilot_conflict_outbound_listener_tcp_over_current_tcp";
const RAW_BUFFER: &str = "raw_buffer";

/// What is served at one address so far.
#[derive(Clone, Debug)]
pub(super) struct Entry {
    group: usize,
    bound: bool,
    traffic: Traffic,
    http: Option<Http>,
    tcp: Vec<Chain>,
    /// A protocol that cannot share the address with others.
    exclusive: Option<Protocol>,
    sources: Vec<ConfigRef>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Traffic {
    /// HTTP only.
    Http,
    Tcp,
    /// HTTP is detected, everything else is TCP.
    Auto,
}

#[derive(Clone, Debug)]
struct Http {
    route: String,
    protocol: Protocol,
}

/// What one claim adds at one address.
struct Offer {
    http: Option<Http>,
    tcp: Vec<Chain>,
}

/// Merges all claims, oldest first; the result is by address.
pub(super) fn merge(inputs: &Inputs<'_>, skipped: &mut Vec<Skipped>) -> BTreeMap<Arc<str>, Entry> {
    let mut entries: BTreeMap<Arc<str>, Entry> = BTreeMap::new();
    for claim in &inputs.claims {
        for (address, ranges, own) in addresses_of(inputs, claim) {
            let wildcard = inputs.ip_mode.wildcards().contains(&&*address);
            let offer = offer(inputs, claim, wildcard, &ranges, own, skipped);
            match entries.get_mut(&address) {
                Some(entry) => entry.take(claim, offer, skipped),
                None => {
                    entries.insert(address, Entry::new(claim, offer, wildcard));
                }
            }
        }
    }
    entries.retain(|_, entry| entry.http.is_some() || !entry.tcp.is_empty());
    entries
}

/// Addresses of a claim, each with the ranges that it represents and whether it is the service's
/// own address.
fn addresses_of(inputs: &Inputs<'_>, claim: &Claim<'_>) -> Vec<(Arc<str>, Vec<Arc<str>>, bool)> {
    let wildcard = || Arc::from(inputs.ip_mode.wildcard());
    if let Some(bind) = &claim.binding.bind {
        return vec![(bind.clone(), Vec::new(), false)];
    }
    let Some(l4) = &claim.l4 else {
        return vec![(wildcard(), Vec::new(), false)];
    };
    let endpoints = l4.endpoints.map(|endpoints| &***endpoints);
    arrivals::of_service(l4.service, &l4.port.name, endpoints, inputs.ip_mode)
        .into_iter()
        .flat_map(|arrival| match arrival {
            Arrival::Wildcard => vec![(wildcard(), Vec::new(), false)],
            Arrival::Ranges(ranges) => vec![(wildcard(), ranges, false)],
            Arrival::Addresses(ips) => ips
                .into_iter()
                .map(|ip| (ip.to_string().into(), Vec::new(), true))
                .collect(),
        })
        .collect()
}

fn offer(
    inputs: &Inputs<'_>,
    claim: &Claim<'_>,
    wildcard: bool,
    ranges: &[Arc<str>],
    own_address: bool,
    skipped: &mut Vec<Skipped>,
) -> Offer {
    let host = claim.host.as_str();
    let route = match &claim.binding.bind {
        Some(bind) if bind.starts_with("unix://") => SidecarRoute::Unix(bind),
        _ if own_address => SidecarRoute::Sniffed {
            host,
            port: claim.port,
        },
        _ => SidecarRoute::Port(inputs.port),
    };
    let http = (claim.protocol.is_http() || claim.protocol.is_auto()).then(|| Http {
        route: route.to_string(),
        protocol: claim.protocol,
    });
    let tcp = claim
        .l4
        .as_ref()
        .map(|l4| chains(inputs, claim, l4, wildcard, ranges, skipped))
        .unwrap_or_default();
    Offer { http, tcp }
}

/// Filter chains for the TCP connections of a claim.
fn chains(
    inputs: &Inputs<'_>,
    claim: &Claim<'_>,
    l4: &L4<'_>,
    wildcard: bool,
    ranges: &[Arc<str>],
    skipped: &mut Vec<Skipped>,
) -> Vec<Chain> {
    let number = claim.port;
    let range_matches: Vec<_> = ranges
        .iter()
        .filter_map(|range| filter::cidr(range))
        .collect();
    let mut chains = Vec::new();
    let mut ended = false;
    if let Some(vs) = l4.vs {
        let context = tcp::Context {
            vs,
            gateway: MESH_GATEWAY,
            port: number,
            protocol: claim.protocol,
            source: l4.source,
            destinations: &l4.destinations,
            mesh: inputs.mesh,
        };
        if claim.protocol.is_tls() {
            chains = tcp::tls_chains(&context, skipped);
            ended = !chains.is_empty();
        } else {
            (chains, ended) = tcp::tcp_chains(&context, skipped);
        }
        for chain in &mut chains {
            if chain.destinations.is_empty() {
                chain.destinations.clone_from(&range_matches);
            }
        }
    }
    if ended {
        return chains;
    }
    let resolved = Resolved::of_service(l4.service, number, l4.rule.map(|rule| &***rule));
    let pattern = inputs.mesh.config.outbound_cluster_stat_name.as_str();
    let stat_prefix = if pattern.is_empty() {
        resolved.cluster.clone()
    } else {
        name::stat_from_pattern(pattern, l4.service, l4.port, l4.port.target_port, "")
    };
    // An address belongs to one service; on the wildcard the server name selects the service.
    let server_names = if claim.protocol.is_tls() && wildcard {
        tcp::server_names(&[claim.host.to_string()]).unwrap_or_default()
    } else {
        Vec::new()
    };
    chains.push(Chain {
        server_names,
        destinations: range_matches,
        filters: tcp::to_destination(&resolved, stat_prefix, claim.protocol, inputs.mesh),
        ..Default::default()
    });
    chains
}

impl Entry {
    fn new(claim: &Claim<'_>, offer: Offer, wildcard: bool) -> Self {
        let traffic = if claim.protocol.is_auto() {
            Traffic::Auto
        } else if claim.protocol.is_http() {
            // On the wildcard any protocol may arrive, even if all known services use HTTP.
            if wildcard {
                Traffic::Auto
            } else {
                Traffic::Http
            }
        } else {
            Traffic::Tcp
        };
        Self {
            group: claim.group,
            bound: claim.binding.bound,
            traffic,
            http: offer.http,
            tcp: offer.tcp,
            exclusive: exclusive(claim.protocol),
            sources: claim_sources(claim),
        }
    }

    fn take(&mut self, claim: &Claim<'_>, offer: Offer, skipped: &mut Vec<Skipped>) {
        if self.group != claim.group {
            // Later egress listeners must not change addresses of earlier ones.
            return;
        }
        let theirs = exclusive(claim.protocol);
        if self.exclusive != theirs {
            let named = self.exclusive.or(theirs).map_or("", Protocol::as_str);
            skipped.push(conflict(
                claim,
                &format!("{named} cannot share a port with another protocol"),
            ));
            return;
        }
        let (http, auto) = (claim.protocol.is_http(), claim.protocol.is_auto());
        match self.traffic {
            Traffic::Http if auto => {
                self.traffic = Traffic::Auto;
                self.http = offer.http;
                self.tcp = offer.tcp;
                self.sources = claim_sources(claim);
            }
            Traffic::Http | Traffic::Auto if http || auto => {}
            Traffic::Http | Traffic::Auto => {
                self.traffic = Traffic::Auto;
                self.append(claim, offer.tcp, skipped);
            }
            Traffic::Tcp => {
                if http || auto {
                    self.traffic = Traffic::Auto;
                    self.http = offer.http;
                    self.sources.extend(claim_sources(claim));
                }
                self.append(claim, offer.tcp, skipped);
            }
        }
    }

    fn append(&mut self, claim: &Claim<'_>, chains: Vec<Chain>, skipped: &mut Vec<Skipped>) {
        for chain in chains {
            if self.tcp.iter().any(|known| known.matches_like(&chain)) {
                skipped.push(conflict(
                    claim,
                    "an older service matches the same connections; use another address or port",
                ));
            } else {
                self.tcp.push(chain);
                self.sources.extend(claim_sources(claim));
            }
        }
    }

    pub(super) fn into_resource(self, inputs: &Inputs<'_>, address: &str) -> Resource {
        let path = address.strip_prefix("unix://");
        let name = name::listener(
            path.unwrap_or(address),
            if path.is_some() { 0 } else { inputs.port },
        );
        let http10 = inputs.http10;
        let detects = self.traffic == Traffic::Auto;
        let http = self.http.map(|http| FilterChain {
            filter_chain_match: detects.then(|| plain_http(http10)),
            filters: vec![manager::filter(manager::Options {
                mesh: inputs.mesh,
                side: Side::Outbound,
                stat_prefix: name::outbound_stat_prefix(&name),
                routes: Routes::Named(http.route),
                protocol: http.protocol,
                http10,
                absolute_urls: http.protocol == Protocol::HttpProxy,
                security: Vec::new(),
            })],
            transport_socket_connect_timeout: Some(tcp::HANDSHAKE_TIMEOUT),
            ..Default::default()
        });
        let inspects_tls = self.tcp.iter().any(|chain| !chain.server_names.is_empty());
        let inspects_http = detects && http.is_some();

        let (for_all, mut chains): (Vec<Chain>, Vec<Chain>) =
            self.tcp.into_iter().partition(Chain::matches_all);
        let mut for_all = for_all.into_iter().next().map(Chain::into_filter_chain);
        let mut filter_chains: Vec<FilterChain> = Vec::with_capacity(chains.len() + 1);
        match http {
            Some(http) if detects => filter_chains.push(http),
            Some(http) => for_all = for_all.or(Some(http)),
            None => {}
        }
        filter_chains.extend(chains.drain(..).map(Chain::into_filter_chain));
        let default_filter_chain = match for_all {
            Some(only) if filter_chains.is_empty() => {
                filter_chains.push(only);
                None
            }
            Some(for_all) => Some(for_all),
            None => Some(fall_through(inputs)),
        };

        let mut listener_filters = Vec::new();
        if inspects_tls {
            listener_filters.push(filter::tls_inspector());
        }
        if inspects_http {
            listener_filters.push(filter::http_inspector());
        }
        let detection = inputs.mesh.protocol_detection_timeout;
        let timeout = if inspects_http {
            Duration::try_from(detection).unwrap_or_default()
        } else {
            Duration::default()
        };
        let listener = Listener {
            name: name.clone(),
            traffic_direction: TrafficDirection::Outbound.into(),
            address: Some(match path {
                Some(path) => Address {
                    address: Some(address::Address::Pipe(Pipe {
                        path: path.to_owned(),
                        ..Default::default()
                    })),
                },
                None => filter::socket(address, inputs.port),
            }),
            bind_to_port: (!self.bound).then_some(false),
            max_connections_to_accept_per_socket_event: self.bound.then_some(ACCEPTS_PER_EVENT),
            continue_on_listener_filters_timeout: true,
            listener_filters_timeout: Some(timeout),
            listener_filters,
            filter_chains,
            default_filter_chain,
            ..Default::default()
        };
        Resource::new(name, &listener, sources(self.sources))
    }
}

/// Matches plain-text HTTP, as detected by the HTTP inspector.
pub(crate) fn plain_http(http10: bool) -> FilterChainMatch {
    let protocols = http10
        .then_some("http/1.0")
        .into_iter()
        .chain(["http/1.1", "h2c"]);
    FilterChainMatch {
        transport_protocol: RAW_BUFFER.to_owned(),
        application_protocols: protocols.map(str::to_owned).collect(),
        ..Default::default()
    }
}

/// For connections to the port that match none of its services.
fn fall_through(inputs: &Inputs<'_>) -> FilterChain {
    FilterChain {
        name: name::PASSTHROUGH_CHAIN.to_owned(),
        filter_chain_match: Some(FilterChainMatch::default()),
        filters: tcp::to_cluster(&inputs.fallback.cluster, inputs.mesh),
        ..Default::default()
    }
}

fn exclusive(protocol: Protocol) -> Option<Protocol> {
    matches!(protocol, Protocol::Mongo | Protocol::Mysql).then_some(protocol)
}

fn claim_sources(claim: &Claim<'_>) -> Vec<ConfigRef> {
    let mut refs = claim.sources.to_vec();
    if let Some(l4) = &claim.l4 {
        refs.extend(l4.vs.iter().map(|vs| vs.config.reference.clone()));
        refs.extend(l4.rule.iter().flat_map(|rule| rule.sources.iter().cloned()));
    }
    refs
}

fn conflict(claim: &Claim<'_>, reason: &str) -> Skipped {
    Skipped {
        metric: CONFLICT,
        reason: format!("{} port {}: {reason}", claim.host, claim.port),
        source: claim.sources.first().cloned(),
    }
}
