//! Services: their addresses, and who is behind them.

use std::collections::BTreeMap;
use std::net::Ipv4Addr;

use anyhow::Result;
use k8s_openapi::api::core::v1::Service;
use serde_json::Value;

use crate::manifest::Key;
use crate::node::cluster_ip::{ClusterIps, Protocol};
use crate::node::network::Addresses;
use crate::node::publish::Routes;
use crate::node::service::{self, Backend};
use crate::node::store::Store;

/// Gives each Service an address that stays.
#[derive(Debug)]
pub(super) struct ServiceAddresses {
    free: Addresses,
    given: BTreeMap<Key, Ipv4Addr>,
}

impl ServiceAddresses {
    pub(super) fn new() -> Self {
        Self {
            free: Addresses::services(),
            given: BTreeMap::new(),
        }
    }

    /// All Services, with their addresses.
    pub(super) fn services(&mut self, store: &Store) -> BTreeMap<Key, Service> {
        let objects = store.of_kind("", "Service");
        self.given
            .retain(|key, _| objects.iter().any(|(held, _)| held == key));
        let mut services = BTreeMap::new();
        for (key, object) in objects {
            let mut service = match read(&object) {
                Ok(service) => service,
                Err(error) => {
                    tracing::error!("{key}: {error:#}");
                    continue;
                }
            };
            let spec = service.spec.get_or_insert_default();
            let given = spec.cluster_ip.as_deref().is_some_and(|ip| !ip.is_empty());
            if !given && spec.type_.as_deref() != Some("ExternalName") {
                let ip = self.given.get(&key).copied().or_else(|| {
                    let taken = &self.given;
                    self.free.take(|ip| taken.values().any(|held| *held == ip))
                });
                if let Some(ip) = ip {
                    self.given.insert(key.clone(), ip);
                    spec.cluster_ip = Some(ip.to_string());
                    spec.cluster_ips = Some(vec![ip.to_string()]);
                }
            }
            services.insert(key, service);
        }
        services
    }
}

/// Reads a Service.
///
/// # Errors
/// When it is none, or a port is not one.
pub(super) fn read(object: &Value) -> Result<Service> {
    let service: Service = serde_json::from_value(object.clone())?;
    for port in service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten())
    {
        anyhow::ensure!(
            u16::try_from(port.port).is_ok_and(|port| port > 0),
            "spec.ports: {} is not a port number",
            port.port
        );
    }
    Ok(service)
}

/// Adds the ready addresses behind each port, by the name of the Service.
pub(super) fn add_routes(routes: &mut Routes, service: &Service, backends: &[Backend]) {
    let (Some(name), Some(namespace)) = (&service.metadata.name, &service.metadata.namespace)
    else {
        return;
    };
    for port in service
        .spec
        .iter()
        .flat_map(|spec| spec.ports.iter().flatten())
    {
        if let Ok(number) = u16::try_from(port.port) {
            let addresses = service::ready_addresses(service, port, backends);
            routes.insert((namespace.clone(), name.clone(), number), addresses);
        }
    }
}

/// Adds the ready addresses behind each port, by the address of the Service.
pub(super) fn add_cluster_ips(
    cluster_ips: &mut ClusterIps,
    service: &Service,
    backends: &[Backend],
) {
    let Some(spec) = &service.spec else { return };
    let Some(ip) = spec
        .cluster_ip
        .as_deref()
        .and_then(|text| text.parse().ok())
    else {
        return;
    };
    for port in spec.ports.iter().flatten() {
        let protocol = match port.protocol.as_deref() {
            None | Some("TCP") => Protocol::Tcp,
            Some("UDP") => Protocol::Udp,
            Some(_) => continue,
        };
        if let Ok(number) = u16::try_from(port.port) {
            let addresses = service::ready_addresses(service, port, backends);
            cluster_ips.insert((ip, protocol, number), addresses);
        }
    }
}
