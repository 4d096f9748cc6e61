//! Addresses at which connections to a service are accepted.

use std::{net::IpAddr, sync::Arc};

use pilot_model::{
    proxy::IpMode,
    service::{Endpoints, Registry, Resolution, Service},
};

/// Where connections to one port of a service arrive.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Arrival {
    /// At any address on the port.
    Wildcard,
    /// At any address of these ranges.
    Ranges(Vec<Arc<str>>),
    /// At these addresses only.
    Addresses(Vec<IpAddr>),
}

/// Addresses for TCP connections; HTTP always uses the wildcard, with services selected by host.
pub fn of_service(
    service: &Service,
    port_name: &str,
    endpoints: Option<&Endpoints>,
    ip_mode: IpMode,
) -> Vec<Arrival> {
    let usable = |ip: &IpAddr| match ip_mode {
        IpMode::V4 => ip.is_ipv4(),
        IpMode::V6 => ip.is_ipv6(),
        IpMode::Dual => true,
    };
    if service.addresses.is_empty() {
        return without_vip(service, port_name, endpoints, usable);
    }
    let mut single = Vec::new();
    let mut ranges = Vec::new();
    let mut unspecified = false;
    for address in &service.addresses {
        match address.parse::<IpAddr>() {
            Ok(ip) if ip.is_unspecified() => unspecified = true,
            Ok(ip) if usable(&ip) => single.push(ip),
            Ok(_) => {}
            Err(_) => ranges.push(address.clone()),
        }
    }
    let mut arrivals = Vec::new();
    if unspecified {
        arrivals.push(Arrival::Wildcard);
    }
    if !single.is_empty() {
        arrivals.push(Arrival::Addresses(single));
    }
    if !ranges.is_empty() {
        arrivals.push(Arrival::Ranges(ranges));
    }
    arrivals
}

fn without_vip(
    service: &Service,
    port_name: &str,
    endpoints: Option<&Endpoints>,
    usable: impl Fn(&IpAddr) -> bool,
) -> Vec<Arrival> {
    if service.resolution != Resolution::Passthrough {
        return vec![Arrival::Wildcard];
    }
    let list = endpoints
        .map(|endpoints| endpoints.list.as_slice())
        .unwrap_or_default();
    if list.is_empty() {
        // Clients dial the endpoints themselves. If some are expected, wait for them.
        let awaits = service.registry == Registry::Kubernetes || !service.selector.is_empty();
        return if awaits {
            Vec::new()
        } else {
            vec![Arrival::Wildcard]
        };
    }
    let mut addresses: Vec<IpAddr> = list
        .iter()
        .filter(|endpoint| *endpoint.port_name == *port_name)
        .filter_map(|endpoint| endpoint.address.parse().ok())
        .filter(usable)
        .collect();
    addresses.sort_unstable();
    addresses.dedup();
    vec![Arrival::Addresses(addresses)]
}
