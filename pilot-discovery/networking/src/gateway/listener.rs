//! Listeners of gateways: a filter chain per server, selected by server name.

use pilot_model::hashed::Hashed;
use std::{collections::BTreeSet, sync::Arc};

use istio_api::{
    any,
    envoy::{
        config::{
            core::v3::TrafficDirection,
            listener::v3::{
                Filter, FilterChain, FilterChainMatch, Listener, ListenerFilter, listener_filter,
            },
        },
        extensions::filters::listener::proxy_protocol::v3::ProxyProtocol,
    },
};
use pilot_model::{
    class::Client,
    config::ConfigRef,
    gateway::{Merged, Port, PortKind, Server, Tls},
    protocol::Protocol,
    virtual_service::VirtualService,
};

use super::{REJECTED, automatic_services, offers, route::route_name};
use crate::route::source::Source;
use crate::{
    listener::{
        access_log, filter,
        http_connection_manager::{self, Options, Routes, Side},
        tcp,
    },
    name::{self, Outbound},
    resource::{Built, Resource, Skipped, sources},
    route::destination::Destinations,
    tls::{ALPN_FROM_MESH, downstream},
};

pub(super) fn build(client: &Client<'_>, merged: &Merged<'_>) -> Built {
    let mut built = Built::default();
    for port in &merged.ports {
        let mut open = Open::new(client, merged, port);
        for server in &port.servers {
            open.add(server);
        }
        built.skipped.append(&mut open.skipped);
        built.resources.extend(open.finish());
    }
    built.resources.sort_by(|a, b| a.name.cmp(&b.name));
    built
}

/// A listener being built.
struct Open<'a, 'b> {
    client: &'b Client<'a>,
    merged: &'b Merged<'a>,
    port: &'b Port<'a>,
    name: String,
    address: &'b str,
    chains: Vec<FilterChain>,
    /// Server names that have a filter chain; Envoy rejects duplicates.
    taken: BTreeSet<String>,
    from: Vec<ConfigRef>,
    skipped: Vec<Skipped>,
}

impl<'a, 'b> Open<'a, 'b> {
    fn new(client: &'b Client<'a>, merged: &'b Merged<'a>, port: &'b Port<'a>) -> Self {
        let address = if port.bind.is_empty() {
            client.class.ip_mode.wildcard()
        } else {
            port.bind
        };
        Self {
            name: name::listener(address, port.number),
            address,
            client,
            merged,
            port,
            chains: Vec::new(),
            taken: BTreeSet::new(),
            from: Vec::new(),
            skipped: Vec::new(),
        }
    }

    fn add(&mut self, server: &Server<'_>) {
        self.from.push(server.gateway.reference.clone());
        let done = match (self.port.kind, server.tls) {
            // Servers of the port share one route configuration, and so one chain.
            (PortKind::Http, _) if !self.chains.is_empty() => Ok(()),
            (PortKind::Http, _) => {
                let filters = self.http(server);
                self.push(Vec::new(), filters);
                Ok(())
            }
            (_, Tls::Passthrough) => {
                self.pass_through(server);
                Ok(())
            }
            (_, Tls::AutoPassthrough) => {
                self.pass_through_by_name(server);
                Ok(())
            }
            (_, Tls::None | Tls::Terminated) => self.end(server),
        };
        if let Err(reason) = done {
            self.skip(server, reason);
        }
    }

    fn skip(&mut self, server: &Server<'_>, reason: String) {
        self.skipped.push(Skipped {
            metric: REJECTED,
            reason: format!("listener {}: {reason}", self.name),
            source: Some(server.gateway.reference.clone()),
        });
    }

    /// A filter chain that terminates TLS or has none.
    fn end(&mut self, server: &Server<'_>) -> Result<(), String> {
        let settings = server
            .spec
            .tls
            .as_ref()
            .filter(|_| server.tls == Tls::Terminated);
        let socket = settings
            .map(|settings| downstream::server(settings, &self.client.snapshot.mesh))
            .transpose()?;
        let hosts: Vec<String> = server
            .plain_hosts()
            .iter()
            .map(ToString::to_string)
            .collect();
        let names = if socket.is_some() {
            tcp::server_names(&hosts)?
        } else {
            Vec::new()
        };
        let filters = if server.is_http() {
            self.http(server)
        } else {
            match self.tcp(server) {
                Some(filters) => filters,
                // No VirtualService routes its connections.
                None => return Ok(()),
            }
        };
        if self.claim(&names) {
            if let Some(chain) = self.push(names, filters) {
                chain.transport_socket = socket;
            }
            Ok(())
        } else {
            Err("another server already has a filter chain for one of its hosts".to_owned())
        }
    }

    fn http(&self, server: &Server<'_>) -> Vec<Filter> {
        let stat_prefix = if server.tls == Tls::Terminated && !server.spec.name.is_empty() {
            server.spec.name.clone()
        } else {
            name::outbound_stat_prefix(&self.name)
        };
        vec![http_connection_manager::filter(Options {
            mesh: &self.client.snapshot.mesh,
            side: Side::Gateway,
            stat_prefix,
            routes: Routes::Named(route_name(self.port, server)),
            protocol: self.http_protocol(server),
            http10: self.client.class.http10,
            absolute_urls: false,
            security: Vec::new(),
        })]
    }

    /// gRPC-Web if any server of the shared chain uses it: it does not affect the others.
    fn http_protocol(&self, server: &Server<'_>) -> Protocol {
        let shared = self.port.kind == PortKind::Http;
        let mut speaking = self.port.servers.iter().map(|other| other.protocol);
        if shared && speaking.any(|protocol| protocol == Protocol::GrpcWeb) {
            Protocol::GrpcWeb
        } else {
            server.protocol.after_tls()
        }
    }

    /// VirtualServices bound to the Gateway of `server` that share a host with it.
    fn bound(&self, server: &Server<'_>, gateway: &str) -> Vec<Arc<Hashed<VirtualService>>> {
        let namespace = &self.client.class.namespace;
        let mut bound = self
            .client
            .snapshot
            .virtual_services
            .for_gateway(gateway, namespace);
        bound.retain(|vs| !server.common_hosts(vs).is_empty());
        bound
    }

    /// The filters of the first matching `tcp` route.
    fn tcp(&mut self, server: &Server<'_>) -> Option<Vec<Filter>> {
        let gateway = server.gateway_name();
        for vs in self.bound(server, &gateway) {
            let destinations = Destinations::of_l4(self.client, &vs);
            let context = context(self.client, server, &gateway, &vs, &destinations);
            let (chains, _) = tcp::tcp_chains(&context, &mut self.skipped);
            if let Some(first) = chains.into_iter().next() {
                self.from.push(vs.config.reference.clone());
                self.from.extend(destinations.sources());
                return Some(first.filters);
            }
        }
        None
    }

    /// A chain per `tls` match, which forwards connections without terminating TLS.
    fn pass_through(&mut self, server: &Server<'_>) {
        let gateway = server.gateway_name();
        for vs in self.bound(server, &gateway) {
            let destinations = Destinations::of_l4(self.client, &vs);
            let context = context(self.client, server, &gateway, &vs, &destinations);
            let chains = tcp::tls_chains(&context, &mut self.skipped);
            for chain in chains {
                if !self.claim(&chain.server_names) {
                    self.skipped.push(Skipped {
                        metric: REJECTED,
                        reason: format!(
                            "listener {}: one of the server names {:?} already has a filter chain",
                            self.name, chain.server_names
                        ),
                        source: Some(vs.config.reference.clone()),
                    });
                    continue;
                }
                self.from.push(vs.config.reference.clone());
                self.from.extend(destinations.sources());
                let metadata = chain.metadata;
                if let Some(pushed) = self.push(chain.server_names, chain.filters) {
                    pushed.metadata = metadata;
                }
            }
        }
    }

    /// A chain per service port and subset, by the server name that mesh clients send.
    fn pass_through_by_name(&mut self, server: &Server<'_>) {
        let services: Vec<_> = automatic_services(self.client, self.merged)
            .filter(|service| offers(server, service))
            .collect();
        for service in services {
            let rule = self.client.destination_rule(service);
            let subsets = rule.map_or(&[][..], |rule| &rule.spec.subsets);
            let names: Vec<&str> = std::iter::once("")
                .chain(subsets.iter().map(|s| s.name.as_str()))
                .collect();
            for port in service
                .ports
                .iter()
                .filter(|port| port.protocol != Protocol::Udp)
            {
                for subset in &names {
                    let host = service.host().as_str();
                    let cluster = Outbound {
                        port: port.number,
                        subset,
                        host,
                    }
                    .sni();
                    if !self.claim(std::slice::from_ref(&cluster)) {
                        continue;
                    }
                    let filters = tcp::to_cluster(&cluster, &self.client.snapshot.mesh);
                    if let Some(chain) = self.push(vec![cluster], filters) {
                        chain
                            .filter_chain_match
                            .get_or_insert_default()
                            .application_protocols =
                            ALPN_FROM_MESH.iter().map(|&name| name.to_owned()).collect();
                    }
                }
            }
            self.from.extend(service.sources.iter().cloned());
        }
    }

    /// Reserves server names (none = any) for a chain; `false` if one is reserved already.
    fn claim(&mut self, names: &[String]) -> bool {
        let any = ["*".to_owned()];
        let names = if names.is_empty() { &any[..] } else { names };
        if names.iter().any(|name| self.taken.contains(name)) {
            return false;
        }
        self.taken.extend(names.iter().cloned());
        true
    }

    fn push(
        &mut self,
        server_names: Vec<String>,
        filters: Vec<Filter>,
    ) -> Option<&mut FilterChain> {
        self.chains.push(FilterChain {
            filter_chain_match: (!server_names.is_empty()).then(|| FilterChainMatch {
                server_names,
                ..Default::default()
            }),
            filters,
            transport_socket_connect_timeout: Some(tcp::HANDSHAKE_TIMEOUT),
            ..Default::default()
        });
        self.chains.last_mut()
    }

    /// The listener; `None` when no server needs it.
    fn finish(self) -> Option<Resource> {
        if self.chains.is_empty() {
            return None;
        }
        let mesh = &*self.client.snapshot.mesh;
        let inspects = self
            .chains
            .iter()
            .any(|chain| chain.filter_chain_match.is_some());
        let behind_proxy = mesh
            .config
            .default_config
            .as_ref()
            .and_then(|config| config.gateway_topology.as_ref())
            .is_some_and(|topology| topology.proxy_protocol.is_some());
        let listener = Listener {
            name: self.name,
            address: Some(filter::socket(self.address, self.port.number)),
            traffic_direction: TrafficDirection::Outbound.into(),
            max_connections_to_accept_per_socket_event: Some(1),
            listener_filters: behind_proxy
                .then(proxy_protocol)
                .into_iter()
                .chain(inspects.then(filter::tls_inspector))
                .collect(),
            filter_chains: self.chains,
            access_log: access_log::of_unmatched(mesh),
            ..Default::default()
        };
        Some(Resource::new(
            listener.name.as_str(),
            &listener,
            sources(self.from),
        ))
    }
}

fn context<'c>(
    client: &'c Client<'_>,
    server: &Server<'_>,
    gateway: &'c str,
    vs: &'c VirtualService,
    destinations: &'c Destinations<'c>,
) -> tcp::Context<'c> {
    tcp::Context {
        vs,
        gateway,
        port: server.port,
        protocol: server.protocol.after_tls(),
        source: Source::of(client.class, vs),
        destinations,
        mesh: &client.snapshot.mesh,
    }
}

/// Reads the client's address from the first bytes of each connection (PROXY protocol).
fn proxy_protocol() -> ListenerFilter {
    ListenerFilter {
        name: "envoy.filters.listener.proxy_protocol".to_owned(),
        config_type: Some(listener_filter::ConfigType::TypedConfig(any::pack(
            &ProxyProtocol::default(),
        ))),
        ..Default::default()
    }
}
