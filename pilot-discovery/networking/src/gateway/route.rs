//! Route configurations of gateways.

use pilot_model::hashed::Hashed;
use std::{collections::BTreeMap, sync::Arc};

use istio_api::envoy::config::route::v3::{
    Route, RouteConfiguration, VirtualHost, virtual_host::TlsRequirementType,
};
use pilot_model::{
    class::Client,
    config::ConfigRef,
    gateway::{Merged, Port, PortKind, Server},
    host::Host,
    virtual_service::VirtualService,
};

use crate::route::source::Source;
use crate::{
    name,
    resource::{Built, Resource, Skipped, sources},
    route::{
        destination::Destinations,
        http::{self, Context},
        outbound::fallback::counts_attempts,
    },
};

/// Maximum size of a direct response, in bytes.
const DIRECT_RESPONSE_LIMIT: u32 = 1 << 20;

/// Name of the route configuration of `server` on `port`.
pub(super) fn route_name(port: &Port<'_>, server: &Server<'_>) -> String {
    match port.kind {
        PortKind::Http => name::gateway_http_route(port.number, port.bind),
        _ => name::gateway_https_route(
            server.port,
            server.port_name,
            server.gateway.name(),
            server.gateway.namespace(),
            port.bind,
        ),
    }
}

pub(super) fn build(client: &Client<'_>, merged: &Merged<'_>) -> Built {
    let mut built = Built::default();
    for port in &merged.ports {
        match port.kind {
            PortKind::Tcp => {}
            PortKind::Http => {
                let servers: Vec<&Server<'_>> = port.servers.iter().collect();
                configure(client, port, &servers, &mut built);
            }
            PortKind::Tls => {
                for server in port.servers.iter().filter(|server| server.is_http()) {
                    configure(client, port, &[server], &mut built);
                }
            }
        }
    }
    built
}

/// A virtual host being built.
#[derive(Default)]
struct Entry {
    routes: Vec<Route>,
    /// VirtualServices whose routes were added.
    from: Vec<ConfigRef>,
    redirects: bool,
}

fn configure(client: &Client<'_>, port: &Port<'_>, servers: &[&Server<'_>], built: &mut Built) {
    let Some(first) = servers.first() else {
        return;
    };
    let mut hosts: BTreeMap<Host, Entry> = BTreeMap::new();
    let mut from: Vec<ConfigRef> = Vec::new();
    for server in servers {
        from.push(server.gateway.reference.clone());
        let gateway = server.gateway_name();
        let bound = client
            .snapshot
            .virtual_services
            .for_gateway(&gateway, &client.class.namespace);
        for vs in &bound {
            fill(
                client,
                server,
                &gateway,
                vs,
                &mut hosts,
                &mut from,
                &mut built.skipped,
            );
        }
        if server.redirects_to_https() {
            for host in server.plain_hosts() {
                hosts.entry(host).or_default().redirects = true;
            }
        }
    }
    let counts = counts_attempts(&client.snapshot.mesh);
    let mut virtual_hosts: Vec<VirtualHost> = hosts
        .into_iter()
        .map(|(host, entry)| virtual_host(&host, first.port, entry, counts))
        .collect();
    virtual_hosts.sort_by(|a, b| a.name.cmp(&b.name));
    if virtual_hosts.is_empty() {
        // It answers 404, as an empty configuration would, but its name says why.
        virtual_hosts.push(VirtualHost {
            name: name::blackhole_virtual_host(first.port),
            domains: vec!["*".to_owned()],
            ..Default::default()
        });
    }
    let config = RouteConfiguration {
        name: route_name(port, first),
        virtual_hosts,
        validate_clusters: Some(false),
        max_direct_response_body_size_bytes: Some(DIRECT_RESPONSE_LIMIT),
        ignore_port_in_host_matching: true,
        ..Default::default()
    };
    built
        .resources
        .push(Resource::new(config.name.as_str(), &config, sources(from)));
}

/// Adds the routes of `vs` to each host that it shares with `server`.
fn fill(
    client: &Client<'_>,
    server: &Server<'_>,
    gateway: &str,
    vs: &Arc<Hashed<VirtualService>>,
    hosts: &mut BTreeMap<Host, Entry>,
    from: &mut Vec<ConfigRef>,
    skipped: &mut Vec<Skipped>,
) {
    let common = server.common_hosts(vs);
    if common.is_empty() {
        return;
    }
    let destinations = Destinations::of_http(client, vs);
    let (routes, left_out) = http::routes(&Context {
        vs,
        gateway,
        port: server.port,
        source: Source::of(client.class, vs),
        destinations: &destinations,
        mesh: &client.snapshot.mesh,
    });
    skipped.extend(left_out);
    if routes.is_empty() {
        return;
    }
    from.push(vs.config.reference.clone());
    from.extend(vs.delegates.iter().cloned());
    from.extend(destinations.sources());
    for host in common {
        let entry = hosts.entry(host).or_default();
        entry.redirects |= server.redirects_to_https();
        if !entry.from.contains(&vs.config.reference) {
            entry.from.push(vs.config.reference.clone());
            entry.routes.extend(routes.iter().cloned());
        }
    }
}

fn virtual_host(host: &Host, port: u32, entry: Entry, counts_attempts: bool) -> VirtualHost {
    let Entry {
        mut routes,
        redirects,
        ..
    } = entry;
    // Routes of several VirtualServices: a catch-all of one must not hide routes of another.
    routes.sort_by_key(|route| route.r#match.as_ref().is_some_and(http::is_catch_all));
    VirtualHost {
        name: name::virtual_host(host.as_str(), port),
        domains: vec![host.to_string()],
        routes,
        include_request_attempt_count: counts_attempts,
        require_tls: if redirects {
            TlsRequirementType::All.into()
        } else {
            0
        },
        ..Default::default()
    }
}
