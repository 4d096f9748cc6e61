//! Services that claim a port number, in the order that decides conflicts.

use pilot_model::hashed::Hashed;
use std::sync::Arc;

use pilot_model::{
    class::{Client, OutboundClass},
    config::ConfigRef,
    destination_rule::Rule,
    host::Host,
    mesh::Mesh,
    protocol::Protocol,
    proxy::{Interception, IpMode, ProxyType},
    scope::EgressListener,
    service::{Endpoints, Resolution, Service, ServicePort},
    virtual_service::VirtualService,
};

use crate::{
    resource::Skipped,
    route::{destination::Destinations, outbound::fallback::Fallback, source::Source},
};

/// Lower ports can be bound by privileged processes only.
const FIRST_UNPRIVILEGED: u32 = 1024;

/// Everything that the listeners on one port number depend on; the whole struct is the cache key.
#[derive(Clone, Debug, Hash)]
pub struct Inputs<'a> {
    pub(super) mesh: &'a Hashed<Mesh>,
    pub(super) ip_mode: IpMode,
    pub(super) http10: bool,
    pub(super) port: u32,
    pub(super) fallback: Fallback,
    pub(super) claims: Vec<Claim<'a>>,
    pub(super) skipped: Vec<Skipped>,
}

/// One port of one service in one egress listener.
#[derive(Clone, Debug, Hash)]
pub(super) struct Claim<'a> {
    /// Index of the egress listener; a later one does not change addresses of an earlier one.
    pub(super) group: usize,
    pub(super) binding: Binding,
    pub(super) host: &'a Host,
    /// Port of the service.
    pub(super) port: u32,
    pub(super) protocol: Protocol,
    /// The objects that declare the service.
    pub(super) sources: &'a [ConfigRef],
    /// Empty for HTTP, whose routes are separate resources.
    pub(super) l4: Option<L4<'a>>,
}

/// What the TCP chains of a claim depend on.
#[derive(Clone, Debug, Hash)]
pub(super) struct L4<'a> {
    pub(super) service: &'a Arc<Hashed<Service>>,
    pub(super) port: &'a ServicePort,
    pub(super) vs: Option<&'a Arc<Hashed<VirtualService>>>,
    /// The properties of the client that the routes match on.
    pub(super) source: Source<'a>,
    pub(super) rule: Option<&'a Arc<Hashed<Rule>>>,
    pub(super) destinations: Destinations<'a>,
    /// Set only if clients dial endpoints themselves.
    pub(super) endpoints: Option<&'a Arc<Hashed<Endpoints>>>,
}

/// Where an egress listener accepts connections.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub(super) struct Binding {
    /// Fixed address or `unix://` path; `None` = decided per service.
    pub(super) bind: Option<Arc<str>>,
    /// Has a socket of its own instead of receiving captured connections.
    pub(super) bound: bool,
}

impl Binding {
    fn of(listener: &EgressListener, class: &OutboundClass) -> Self {
        let bound = class.interception == Interception::None
            || !listener.captured
            || listener.bind.starts_with("unix://");
        let bind = if !listener.bind.is_empty() {
            Some(listener.bind.clone())
        } else if bound {
            Some(class.ip_mode.loopback().into())
        } else {
            None
        };
        Self { bind, bound }
    }

    fn is_unix(&self) -> bool {
        self.bind
            .as_ref()
            .is_some_and(|bind| bind.starts_with("unix://"))
    }
}

/// Collects the claims on `port`; 0 stands for Unix sockets.
pub fn gather_port<'a>(client: &Client<'a>, port: u32) -> Inputs<'a> {
    let class = client.class;
    let mut inputs = Inputs {
        mesh: &client.snapshot.mesh,
        ip_mode: class.ip_mode,
        http10: class.http10,
        port,
        fallback: Fallback::of(client),
        claims: Vec::new(),
        skipped: Vec::new(),
    };
    if class.kind != ProxyType::Sidecar || inputs.mesh.outbound_port == 0 {
        return inputs;
    }
    for (group, listener) in client.scope.listeners.iter().enumerate() {
        let binding = Binding::of(listener, class);
        let of_port = match &listener.port {
            Some(own) => own.number == port && (port != 0 || binding.is_unix()),
            None => port != 0,
        };
        if of_port {
            inputs.gather_listener(client, group, listener, &binding);
        }
    }
    inputs
}

impl<'a> Inputs<'a> {
    fn gather_listener(
        &mut self,
        client: &Client<'a>,
        group: usize,
        listener: &'a EgressListener,
        binding: &Binding,
    ) {
        let mut claims: Vec<(&'a Arc<Hashed<Service>>, &'a ServicePort, Protocol)> = Vec::new();
        let mut add = |service: &'a Arc<Hashed<Service>>| {
            let port = match &listener.port {
                // A listener for all ports takes the first port of each service.
                Some(own) => service
                    .port(own.number)
                    .or_else(|| match service.ports.as_slice() {
                        [only] => Some(only),
                        ports if own.number == 0 || own.protocol == Protocol::HttpProxy => {
                            ports.first()
                        }
                        _ => None,
                    }),
                None => service.port(self.port),
            };
            let Some(port) = port else { return };
            let asked = listener.port.as_ref().map(|own| own.protocol);
            let protocol = asked
                .filter(|asked| !asked.is_auto())
                .unwrap_or(port.protocol);
            if protocol != Protocol::Udp {
                claims.push((service, port, protocol));
            }
        };
        match &listener.port {
            None => {
                let hosts = client.scope.by_port.get(&self.port);
                hosts
                    .into_iter()
                    .flatten()
                    .filter_map(|host| listener.services.get(host))
                    .for_each(&mut add);
            }
            Some(_) => listener.services.values().for_each(&mut add),
        }
        // All HTTP services of a port share one listener: the oldest represents them.
        let (http, mut claims): (Vec<_>, Vec<_>) = claims
            .into_iter()
            .partition(|(_, _, protocol)| protocol.is_http());
        claims.extend(http.into_iter().min_by(|(a, _, _), (b, _, _)| a.by_age(b)));
        claims.sort_by(|(a, _, _), (b, _, _)| a.by_age(b));
        for (service, port, protocol) in claims {
            if let Some(reason) = self.refusal(client.class, binding, protocol) {
                self.skipped.push(Skipped {
                    metric: "pilot_total_rejected_configs",
                    reason: format!("{} port {}: {reason}", service.host(), self.port),
                    source: service.sources.first().cloned(),
                });
                continue;
            }
            let l4 = (!protocol.is_http()).then(|| {
                let vs = client.virtual_service(service.host());
                let dials_endpoints = binding.bind.is_none()
                    && service.addresses.is_empty()
                    && service.resolution == Resolution::Passthrough;
                L4 {
                    service,
                    port,
                    vs,
                    source: vs
                        .map(|vs| Source::of(client.class, vs))
                        .unwrap_or_default(),
                    rule: client.destination_rule(service),
                    destinations: vs
                        .map(|vs| Destinations::of_l4(client, vs))
                        .unwrap_or_default(),
                    endpoints: client.endpoints(service).filter(|_| dials_endpoints),
                }
            });
            self.claims.push(Claim {
                group,
                binding: binding.clone(),
                host: service.host(),
                port: port.number,
                protocol,
                sources: &service.sources,
                l4,
            });
        }
    }

    /// Why the proxy cannot or must not listen there.
    fn refusal(
        &self,
        class: &OutboundClass,
        binding: &Binding,
        protocol: Protocol,
    ) -> Option<&'static str> {
        if binding.is_unix() {
            return None;
        }
        if binding.bound && self.port < FIRST_UNPRIVILEGED && class.unprivileged {
            return Some("the proxy may not bind ports below 1024; choose a higher one");
        }
        let wildcard = match &binding.bind {
            Some(bind) => class.ip_mode.wildcards().contains(&&**bind),
            None => protocol.is_http(),
        };
        let reserved = [
            class.status_port,
            class.prometheus_port,
            self.mesh.outbound_port,
            self.mesh.inbound_port,
        ];
        (wildcard && reserved.contains(&self.port))
            .then_some("the proxy itself uses this port; choose another")
    }

    /// Whether there is nothing to build.
    pub fn is_empty(&self) -> bool {
        self.claims.is_empty() && self.skipped.is_empty()
    }
}
