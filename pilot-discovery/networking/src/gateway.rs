//! Listeners, routes and secrets of gateways.
//!
//! A gateway listens as its Gateway objects say and routes by the VirtualServices bound to them;
//! `pilot_model::gateway` decides which servers share a port. There are few gateways, so their
//! resources are built as a whole and not cached in parts.

use std::collections::BTreeSet;

use pilot_model::{
    class::Client,
    gateway::{self as model, Merged, Tls},
    host::Host,
    protocol::Protocol,
    service::Service,
};

use crate::resource::{Built, Skipped};

mod listener;
mod route;
mod secret;

pub use secret::{ERRORS as SECRET_ERRORS, secrets};

/// Metric that counts servers, and other configuration of gateways, that were left out.
const REJECTED: &str = "pilot_total_rejected_configs";

/// All listeners of the gateway.
pub fn listeners(client: &Client<'_>) -> Built {
    let merged = model::merge(client);
    let mut built = listener::build(client, &merged);
    // Reported here only: routes come from the same servers.
    built
        .skipped
        .extend(merged.rejected.iter().map(|rejected| Skipped {
            metric: REJECTED,
            reason: rejected.reason.clone(),
            source: Some(rejected.gateway.clone()),
        }));
    built
}

/// All route configurations that the gateway's listeners refer to.
pub fn routes(client: &Client<'_>) -> Built {
    route::build(client, &model::merge(client))
}

/// Hosts to which VirtualServices bound to the gateway send traffic: it needs no other clusters.
pub fn referenced_hosts(client: &Client<'_>) -> BTreeSet<Host> {
    let merged = model::merge(client);
    let mut hosts = BTreeSet::new();
    for name in gateway_names(&merged) {
        for vs in client
            .snapshot
            .virtual_services
            .for_gateway(&name, &client.class.namespace)
        {
            hosts.extend(vs.destinations(&client.class.namespace));
        }
    }
    // For an alias, traffic goes to the service behind it.
    let targets: Vec<Host> = hosts
        .iter()
        .filter_map(|host| client.service(host)?.external_name.clone())
        .collect();
    hosts.extend(targets);
    hosts
}

/// Hosts of services that clients reach through the gateway by their mesh server name; each needs
/// SNI-DNAT clusters.
pub fn sni_dnat_hosts(client: &Client<'_>) -> BTreeSet<Host> {
    let merged = model::merge(client);
    automatic_services(client, &merged)
        .map(|service| service.host().clone())
        .collect()
}

fn gateway_names(merged: &Merged<'_>) -> BTreeSet<String> {
    merged
        .ports
        .iter()
        .flat_map(|port| &port.servers)
        .map(model::Server::gateway_name)
        .collect()
}

fn automatic_services<'a>(
    client: &Client<'a>,
    merged: &Merged<'_>,
) -> impl Iterator<Item = &'a Service> {
    let servers: Vec<&model::Server<'_>> = merged
        .ports
        .iter()
        .flat_map(|port| &port.servers)
        .filter(|server| server.tls == Tls::AutoPassthrough)
        .collect();
    let offered = move |service: &Service| servers.iter().any(|server| offers(server, service));
    client
        .scope
        .services
        .values()
        .map(|service| &***service)
        .filter(move |service| offered(service))
}

/// Whether an AUTO_PASSTHROUGH server forwards connections to `service`.
fn offers(server: &model::Server<'_>, service: &Service) -> bool {
    !service.mesh_external
        && service
            .ports
            .iter()
            .any(|port| port.protocol != Protocol::Udp)
        && server.hosts.iter().any(|own| {
            own.namespace
                .as_deref()
                .is_none_or(|of| of == service.namespace())
                && service.host().subset_of(&own.host)
        })
}
