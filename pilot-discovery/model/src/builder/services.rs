//! Services from their declarations, and the indices over them.

use std::{collections::BTreeSet, sync::Arc};

use super::Builder;
use crate::{
    config::{ConfigRef, Created},
    hashed::Hashed,
    key::ObjectKey,
    service::{Endpoints, Registry, Resolution, Service, ServiceKey, Target},
    service_entry::Declared,
};

impl Builder {
    pub(super) fn service_entry(
        &mut self,
        synthetic: bool,
        key: &ObjectKey,
        created: Created,
        declared: Vec<Declared>,
    ) {
        let id = (synthetic, key.clone());
        let mut touched: BTreeSet<ServiceKey> = BTreeSet::new();
        if let Some((created, services)) = self.entries.remove(&id) {
            for service in services {
                if let Some(declarations) = self.declared.get_mut(&service) {
                    declarations.remove(&(created, key.clone(), synthetic));
                    if declarations.is_empty() {
                        self.declared.remove(&service);
                    }
                }
                touched.insert(service);
            }
        }
        let mut services = Vec::with_capacity(declared.len());
        for declared in declared {
            let service = declared.service.key.clone();
            self.declared
                .entry(service.clone())
                .or_default()
                .insert((created, key.clone(), synthetic), declared);
            touched.insert(service.clone());
            services.push(service);
        }
        if !services.is_empty() {
            self.entries.insert(id, (created, services));
        }
        for service in touched {
            self.remerge(&service);
        }
    }

    /// Merges the declarations of one service and records what changed.
    pub(super) fn remerge(&mut self, key: &ServiceKey) {
        let merged = self.declared.get(key).and_then(|declarations| {
            // A ServiceEntry never overrides a Kubernetes Service.
            let kubernetes = declarations
                .values()
                .any(|declared| declared.service.registry == Registry::Kubernetes);
            let wanted: Vec<&Declared> = declarations
                .values()
                .filter(|declared| !kubernetes || declared.service.registry == Registry::Kubernetes)
                .collect();
            unite(&wanted)
        });
        let old_service = self.next.service(key).cloned();
        let old_endpoints = self.next.endpoints.get(key).cloned();
        let (service, endpoints) = match merged {
            Some((service, endpoints)) => {
                let service = self.with_alias(service);
                (
                    Some(Arc::new(Hashed::new(service))),
                    Some(Arc::new(Hashed::new(endpoints))),
                )
            }
            None => (None, None),
        };
        // The declaring objects are part of both, so that provenance follows, too.
        let definition = old_service != service;
        let list = old_endpoints != endpoints;
        if !definition && !list {
            return;
        }
        if list {
            self.changes.endpoints.insert(key.host.clone());
            self.reindex_addresses(key, old_endpoints.as_ref(), endpoints.as_ref());
        }
        let inline = service.as_ref().is_some_and(|service| {
            // Their addresses are part of clusters or listeners.
            service.resolution != Resolution::ClientSideLb
        });
        // Both are part of clusters: the identities of servers, and whether all accept mutual TLS.
        let identities = |endpoints: &Option<Arc<Hashed<Endpoints>>>| {
            endpoints
                .as_ref()
                .map(|e| (e.service_accounts(), e.list.iter().all(|one| one.mtls)))
                .unwrap_or_default()
        };
        if definition || inline || identities(&old_endpoints) != identities(&endpoints) {
            self.changes.services.insert(key.host.clone());
        }
        match endpoints {
            Some(endpoints) => self.next.endpoints.insert(key.clone(), endpoints),
            None => self.next.endpoints.remove(key),
        };
        let was_known = self.next.services.contains_key(&key.host);
        self.index_alias(key, old_service.as_ref(), service.as_ref());
        self.lookups.replace(
            old_service.as_ref().map(|service| service.lookup()),
            service.as_ref().map(|service| service.lookup()),
        );
        self.place(key, service);
        self.follow_service(key);
        self.follow_presence(&key.host, was_known);
    }

    fn place(&mut self, key: &ServiceKey, service: Option<Arc<Hashed<Service>>>) {
        let mut declarations: Vec<Arc<Hashed<Service>>> = self
            .next
            .services
            .get(&key.host)
            .map(|services| services.iter().filter(|s| s.key != *key).cloned().collect())
            .unwrap_or_default();
        declarations.extend(service);
        declarations.sort_by(|a, b| a.by_age(b));
        if declarations.is_empty() {
            self.next.services.remove(&key.host);
            self.next.hosts_by_end.remove(&key.host.reversed());
        } else {
            self.next
                .services
                .insert(key.host.clone(), declarations.into());
            let reversed = key.host.reversed();
            self.next.hosts_by_end.insert(reversed, key.host.clone());
        }
    }

    fn reindex_addresses(
        &mut self,
        key: &ServiceKey,
        old: Option<&Arc<Hashed<Endpoints>>>,
        new: Option<&Arc<Hashed<Endpoints>>>,
    ) {
        let targets = |endpoints: Option<&Arc<Hashed<Endpoints>>>| -> BTreeSet<(Arc<str>, Target)> {
            endpoints
                .map(|endpoints| endpoints.list.as_slice())
                .unwrap_or_default()
                .iter()
                .map(|endpoint| {
                    let target = Target {
                        service: key.clone(),
                        port_name: endpoint.port_name.clone(),
                        port: endpoint.port,
                    };
                    (endpoint.address.clone(), target)
                })
                .collect()
        };
        let (old, new) = (targets(old), targets(new));
        for (address, target) in old.difference(&new) {
            if let Some(known) = self.next.by_address.get(address) {
                let mut left = BTreeSet::clone(known);
                left.remove(target);
                if left.is_empty() {
                    self.next.by_address.remove(address);
                } else {
                    self.next.by_address.insert(address.clone(), Arc::new(left));
                }
            }
            self.changes.addresses.insert(address.clone());
        }
        for (address, target) in new.difference(&old) {
            let mut known = self
                .next
                .by_address
                .get(address)
                .map(|k| BTreeSet::clone(k))
                .unwrap_or_default();
            known.insert(target.clone());
            self.next
                .by_address
                .insert(address.clone(), Arc::new(known));
            self.changes.addresses.insert(address.clone());
        }
    }
}

/// Merges the declarations of one service; the oldest decides its attributes.
fn unite(declarations: &[&Declared]) -> Option<(Service, Endpoints)> {
    let (first, others) = declarations.split_first()?;
    let mut service = first.service.clone();
    let mut endpoints = first.endpoints.clone();
    let mut sources: Vec<ConfigRef> = service.sources.to_vec();
    for other in others {
        for address in &other.service.addresses {
            if !service.addresses.contains(address) {
                service.addresses.push(address.clone());
            }
        }
        for port in &other.service.ports {
            if service.port(port.number).is_none() {
                service.ports.push(port.clone());
            }
        }
        for name in &other.service.subject_alt_names {
            if !service.subject_alt_names.contains(name) {
                service.subject_alt_names.push(name.clone());
            }
        }
        for endpoint in &other.endpoints {
            let known = endpoints.iter().any(|e| {
                e.address == endpoint.address
                    && e.port == endpoint.port
                    && e.port_name == endpoint.port_name
            });
            if !known {
                endpoints.push(endpoint.clone());
            }
        }
        sources.extend(other.service.sources.iter().cloned());
    }
    endpoints.sort_by(|a, b| {
        (&a.port_name, &a.address, a.port).cmp(&(&b.port_name, &b.address, b.port))
    });
    service.sources = sources.into();
    Some((service, Endpoints { list: endpoints }))
}
