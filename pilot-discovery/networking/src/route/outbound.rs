//! Route configurations of sidecars' outbound listeners.
//!
//! A route configuration is assembled from virtual hosts that are built, keyed and cached one host
//! at a time, so that a change costs its own virtual hosts and a concatenation.

use std::sync::Arc;

use bytes::Bytes;
use istio_api::envoy::config::route::v3::RouteConfiguration;
use pilot_model::{
    class::Client,
    config::{ConfigRef, Created},
    protocol::Protocol,
    scope::EgressListener,
    service::{Service, ServicePort},
};

use crate::{
    name::{self, SidecarRoute},
    resource::Resource,
};

mod assembly;
mod domains;
pub mod fallback;
pub mod virtual_hosts;

pub use assembly::assemble;
pub use virtual_hosts::for_virtual_service;

/// Name of a route configuration.
pub type RouteName = Arc<str>;

/// One virtual host of one route configuration, encoded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VirtualHostEntry {
    /// `<host>:<port>`, unique within its route configuration.
    pub name: Arc<str>,
    /// The first is its own name, the others are short forms and addresses.
    pub domains: Arc<[Arc<str>]>,
    /// The encoded `VirtualHost`.
    pub body: Bytes,
    /// Hash of `body`.
    pub version: u64,
    /// The objects that it was built from.
    pub sources: Arc<[ConfigRef]>,
    /// Decides which entry keeps a disputed name or domain: the lowest rank.
    pub rank: Rank,
}

/// Order of entries: VirtualServices before service defaults, then by age, name and namespace.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Rank {
    /// 0 = from a VirtualService, 1 = the default of a service.
    pub class: u8,
    /// Age of the object.
    pub created: Created,
    /// Name inside the namespace.
    pub name: Arc<str>,
    /// Kubernetes namespace.
    pub namespace: Arc<str>,
}

/// The resource for a requested name that is unknown; a request must never stay unanswered.
pub fn empty(route: &str) -> Resource {
    let config = RouteConfiguration {
        name: route.to_owned(),
        validate_clusters: Some(false),
        ..Default::default()
    };
    Resource::new(route, &config, [])
}

/// Route configurations that listeners refer to regardless of the services.
pub fn fixed_names(client: &Client<'_>) -> Vec<RouteName> {
    portless(client).into_iter().map(|(name, _)| name).collect()
}

/// Route configurations that hold all ports: those of the HTTP proxy and of Unix sockets.
fn portless<'a>(client: &Client<'a>) -> Vec<(RouteName, &'a EgressListener)> {
    let listeners = client.scope.listeners.iter();
    let mut found: Vec<(RouteName, &EgressListener)> = listeners
        .filter_map(|listener| {
            let port = listener.port.as_ref()?;
            let route = if listener.bind.starts_with("unix://") {
                SidecarRoute::Unix(&listener.bind)
            } else if port.protocol == Protocol::HttpProxy {
                SidecarRoute::Port(port.number)
            } else {
                return None;
            };
            Some((route.to_string().into(), listener))
        })
        .collect();
    if client.snapshot.mesh.http_proxy_port > 0
        && let Some(catch_all) = client.scope.listeners.iter().find(|l| l.port.is_none())
    {
        found.push((name::HTTP_PROXY_ROUTE.into(), catch_all));
    }
    found
}

/// The listener whose services fill route configuration `<port>`; `None` if that listener has a
/// route configuration for all ports.
fn listener_for<'a>(client: &Client<'a>, port: u32) -> Option<&'a EgressListener> {
    client.scope.listener_for(port).filter(|l| {
        l.port
            .as_ref()
            .is_none_or(|p| p.protocol != Protocol::HttpProxy)
    })
}

/// Ports of `service` that HTTP requests can be routed to.
fn http_ports(service: &Service) -> impl Iterator<Item = &ServicePort> {
    service
        .ports
        .iter()
        .filter(|port| port.protocol.is_http() || port.protocol.is_auto())
}
