//! The virtual hosts of one service, or of the hosts of a VirtualService that are not services.

use pilot_model::hashed::Hashed;
use std::{collections::BTreeSet, sync::Arc};

use istio_api::envoy::config::route::v3::{Route, VirtualHost};
use pilot_model::{
    class::Client,
    host::Host,
    mesh::Mesh,
    service::Resolution,
    virtual_service::{MESH_GATEWAY, VirtualService},
};
use prost::Message;
use xxhash_rust::xxh3::xxh3_64;

use super::{
    Rank, RouteName, VirtualHostEntry, domains, fallback::counts_attempts, http_ports,
    listener_for, portless,
};
use crate::{
    name::{self, SidecarRoute},
    resource::{Skipped, sources},
    route::{
        destination::{Destination, Destinations, Resolved},
        http,
        source::Source,
    },
};

/// Port on which hosts that are not services can be requested.
const HTTP_PORT: u32 = 80;

/// Everything that the virtual hosts depend on; the whole struct is the cache key.
#[derive(Clone, Debug, Hash)]
pub struct Inputs<'a> {
    mesh: &'a Hashed<Mesh>,
    /// The properties of the client that the routes match on.
    source: Source<'a>,
    vs: Option<&'a Arc<Hashed<VirtualService>>>,
    destinations: Destinations<'a>,
    slots: Vec<Slot<'a>>,
    /// Hosts of the VirtualService that an older one configures.
    disputed: Vec<&'a Host>,
}

/// One virtual host in one route configuration.
#[derive(Clone, Debug, Hash)]
struct Slot<'a> {
    route: RouteName,
    host: Arc<str>,
    port: u32,
    domains: Vec<Arc<str>>,
    /// The service that gets requests if no VirtualService routes them.
    service: Option<Destination<'a>>,
}

/// Virtual hosts by route configuration.
#[derive(Clone, Debug, Default)]
pub struct Built {
    /// Virtual hosts with the names of their route configurations.
    pub by_route: Vec<(RouteName, VirtualHostEntry)>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
}

/// Inputs of the virtual hosts of the service `host`, on all its ports.
pub fn gather<'a>(client: &Client<'a>, host: &Host) -> Inputs<'a> {
    let mut inputs = Inputs::empty(client);
    let (Some(service), Some(destination)) =
        (client.service(host), Destination::find(client, host))
    else {
        return inputs;
    };
    inputs.vs = client.virtual_service(host);
    if let Some(vs) = inputs.vs {
        inputs.destinations = Destinations::of_http(client, vs);
        inputs.source = Source::of(client.class, vs);
    }
    let class = client.class;
    let domains = domains::of_service(service, &class.dns_domain, class.ip_mode);
    let mut put = |route: RouteName, port: u32, domains: Vec<Arc<str>>| {
        inputs.slots.push(Slot {
            route,
            host: host.to_arc(),
            port,
            domains,
            service: Some(destination),
        });
    };
    for port in http_ports(service) {
        let number = port.number;
        let offered = |listener: &pilot_model::scope::EgressListener| {
            listener
                .services
                .get(host)
                .is_some_and(|s| s.port(number).is_some())
        };
        if listener_for(client, number).is_some_and(offered) {
            put(
                SidecarRoute::Port(number).to_string().into(),
                number,
                domains.clone(),
            );
            let own_listener = service.resolution == Resolution::Passthrough
                || domains::vips(service, class.ip_mode).next().is_some();
            if port.protocol.is_auto() && own_listener {
                let sniffed = SidecarRoute::Sniffed {
                    host: host.as_str(),
                    port: number,
                };
                put(sniffed.to_string().into(), number, vec!["*".into()]);
            }
        }
        for (route, listener) in portless(client) {
            if offered(listener) {
                put(route, number, with_port(&domains, number));
            }
        }
    }
    inputs
}

/// Inputs of the virtual hosts of those hosts of `vs` that are not services.
///
/// They can be requested on port 80 and on the ports of the services that `vs` also names.
pub fn for_virtual_service<'a>(
    client: &Client<'a>,
    vs: &'a Arc<Hashed<VirtualService>>,
) -> Inputs<'a> {
    let mut inputs = Inputs::empty(client);
    if !client.scope.sees(vs) {
        return inputs;
    }
    inputs.vs = Some(vs);
    inputs.source = Source::of(client.class, vs);
    inputs.destinations = Destinations::of_http(client, vs);
    let mut ports = BTreeSet::from([HTTP_PORT]);
    // All ports of the services behind each host, whatever their protocol.
    let mut taken: Vec<(&Host, BTreeSet<u32>)> = Vec::with_capacity(vs.hosts.len());
    for host in &vs.hosts {
        let mut own = BTreeSet::new();
        let mut add = |service: &pilot_model::service::Service| {
            own.extend(service.ports.iter().map(|port| port.number));
            ports.extend(http_ports(service).map(|port| port.number));
        };
        if host.is_wildcard() {
            let covered = client
                .scope
                .services
                .iter()
                .filter(|(known, _)| known.subset_of(host));
            for (known, service) in covered {
                let rules = client
                    .virtual_service(known)
                    .is_some_and(|ruler| ruler.config.reference == vs.config.reference);
                if rules {
                    add(service);
                }
            }
        } else if let Some(service) = client.service(host) {
            add(service);
            let ruler = client.virtual_service(host);
            if ruler.is_some_and(|ruler| ruler.config.reference != vs.config.reference) {
                inputs.disputed.push(host);
            }
        }
        taken.push((host, own));
    }
    let portless = portless(client);
    for (host, own) in taken {
        for port in ports.difference(&own) {
            let domains = vec![domains::of_host(host)];
            let mut put = |route: RouteName, domains: Vec<Arc<str>>| {
                inputs.slots.push(Slot {
                    route,
                    host: host.to_arc(),
                    port: *port,
                    domains,
                    service: None,
                });
            };
            if listener_for(client, *port).is_some() {
                put(
                    SidecarRoute::Port(*port).to_string().into(),
                    domains.clone(),
                );
            }
            for (route, _) in &portless {
                put(route.clone(), with_port(&domains, *port));
            }
        }
    }
    inputs
}

/// Domains where requests for all ports meet: only those for port 80 may omit the port.
fn with_port(domains: &[Arc<str>], port: u32) -> Vec<Arc<str>> {
    domains
        .iter()
        .flat_map(|domain| {
            let bare = (port == HTTP_PORT).then(|| domain.clone());
            bare.into_iter()
                .chain([Arc::from(format!("{domain}:{port}"))])
        })
        .collect()
}

impl<'a> Inputs<'a> {
    fn empty(client: &Client<'a>) -> Self {
        Self {
            mesh: &client.snapshot.mesh,
            source: Source::default(),
            vs: None,
            destinations: Destinations::default(),
            slots: Vec::new(),
            disputed: Vec::new(),
        }
    }

    /// Whether there is nothing to build.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && self.disputed.is_empty()
    }
}

/// Builds and encodes all virtual hosts of `inputs`.
pub fn build(inputs: &Inputs<'_>) -> Built {
    let mut built = Built::default();
    built
        .skipped
        .extend(inputs.disputed.iter().map(|host| Skipped {
            metric: "pilot_vservice_dup_domain",
            reason: format!(
                "an older VirtualService configures {host}; add the routes to that one"
            ),
            source: inputs.vs.map(|vs| vs.config.reference.clone()),
        }));
    for slot in &inputs.slots {
        let mut rank = None;
        let mut routes: Vec<Route> = Vec::new();
        let mut from = Vec::new();
        if let Some(vs) = inputs.vs {
            let context = http::Context {
                vs,
                gateway: MESH_GATEWAY,
                port: slot.port,
                source: inputs.source,
                destinations: &inputs.destinations,
                mesh: inputs.mesh,
            };
            let (of_vs, skipped) = http::routes(&context);
            for reason in skipped {
                if !built.skipped.contains(&reason) {
                    built.skipped.push(reason);
                }
            }
            if !of_vs.is_empty() {
                routes = of_vs;
                let config = &vs.config;
                rank = Some(Rank {
                    class: 0,
                    created: config.created,
                    name: config.reference.name.clone(),
                    namespace: config.reference.namespace.clone(),
                });
                from.push(config.reference.clone());
                from.extend(vs.delegates.iter().cloned());
                from.extend(inputs.destinations.sources());
            }
        }
        if routes.is_empty()
            && let Some(destination) = &slot.service
        {
            let resolved = Resolved::of_service(
                destination.service,
                slot.port,
                destination.rule.map(|rule| &***rule),
            );
            routes.push(http::default_route(&resolved, inputs.mesh));
            from.extend(
                destination
                    .rule
                    .iter()
                    .flat_map(|rule| rule.sources.iter().cloned()),
            );
        }
        let Some(service) = slot.service.as_ref().map(|destination| destination.service) else {
            if let Some(rank) = rank {
                built
                    .by_route
                    .push((slot.route.clone(), entry(inputs, slot, routes, from, rank)));
            }
            continue;
        };
        from.extend(service.sources.iter().cloned());
        let rank = rank.unwrap_or_else(|| Rank {
            class: 1,
            created: service.created,
            name: service.host().to_arc(),
            namespace: service.key.namespace.clone(),
        });
        built
            .by_route
            .push((slot.route.clone(), entry(inputs, slot, routes, from, rank)));
    }
    built
}

fn entry(
    inputs: &Inputs<'_>,
    slot: &Slot<'_>,
    routes: Vec<Route>,
    from: Vec<pilot_model::config::ConfigRef>,
    rank: Rank,
) -> VirtualHostEntry {
    let name: Arc<str> = name::virtual_host(&slot.host, slot.port).into();
    let host = VirtualHost {
        name: name.to_string(),
        domains: slot.domains.iter().map(ToString::to_string).collect(),
        routes,
        include_request_attempt_count: counts_attempts(inputs.mesh),
        ..Default::default()
    };
    let body: bytes::Bytes = host.encode_to_vec().into();
    VirtualHostEntry {
        name,
        domains: slot.domains.clone().into(),
        version: xxh3_64(&body),
        body,
        sources: sources(from),
        rank,
    }
}
