//! The one writer: takes changed objects, publishes snapshots and says what may differ.

mod alias;
mod credentials;
mod policies;
mod read;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use istio_api::{collections::Collection, networking::v1alpha3 as api, object::Object};
use istio_rules::conversion::Source;

use crate::{
    authn::legacy::{Policies, Unit},
    changes::Changes,
    class::Target,
    config::{Config, ConfigName, ConfigRef, Created, is_synthetic, is_traced},
    destination_rule::{DestinationRule, failover_labels},
    host::Host,
    key::ObjectKey,
    mesh::Mesh,
    service::{Endpoints, Registry, Resolution, Service, ServiceKey},
    service_entry::{Declared, convert},
    snapshot::{Snapshot, sidecar_selector},
    virtual_service::{VirtualService, delegate},
};

pub use read::Refused;
use read::{decode, refused, version};

/// A declaration of a service: which object made it decides between several.
type DeclarationId = (Created, ObjectKey, bool);

/// Mutable indices behind the published snapshot. Owned by one task.
#[derive(Debug, Default)]
pub struct Builder {
    next: Snapshot,
    changes: Changes,
    /// Hosts and namespaces that each ServiceEntry declares; the flag marks synthetic ones.
    entries: BTreeMap<(bool, ObjectKey), (Created, Vec<ServiceKey>)>,
    declared: BTreeMap<ServiceKey, BTreeMap<DeclarationId, Declared>>,
    /// VirtualServices before their delegates are merged in.
    roots: BTreeMap<ObjectKey, Arc<VirtualService>>,
    /// Policies and MeshPolicies of 1.1.
    policies: Policies,
    /// Namespaces of which Policies target something that was decided differently.
    unsettled: BTreeSet<Arc<str>>,
    /// The objects that they come to, by where they belong.
    converted: BTreeMap<Unit, BTreeMap<ObjectKey, Object>>,
    /// Encoded objects, to make them again when the mesh config changes.
    objects: BTreeMap<(&'static str, ObjectKey), Object>,
}

impl Builder {
    pub fn new(mesh: Mesh) -> Self {
        let mut builder = Self::default();
        builder.next.mesh = Arc::new(mesh);
        builder.changes.everything = true;
        builder
    }

    /// Puts `object` in the place of what `key` held in `collection`; `None` removes it.
    ///
    /// # Errors
    /// When the body cannot be decoded; the last good version stays in force.
    pub fn apply(
        &mut self,
        collection: &'static Collection,
        key: &ObjectKey,
        object: Option<Object>,
    ) -> Result<(), Refused> {
        self.index(collection, key, object.as_ref())?;
        self.note_version(collection, key, object.as_ref());
        let id = (collection.name, key.clone());
        match object {
            Some(object) => self.objects.insert(id, object),
            None => self.objects.remove(&id),
        };
        Ok(())
    }

    /// Keeps the version of an object that is in force from the next snapshot on.
    fn note_version(
        &mut self,
        collection: &'static Collection,
        key: &ObjectKey,
        object: Option<&Object>,
    ) {
        if !is_traced(collection) {
            return;
        }
        let name = ConfigName {
            kind: collection.kind,
            namespace: key.namespace.clone(),
            name: key.name.clone(),
        };
        let known = self.next.configs.get(&name);
        match object.map(|object| &*object.meta.resource_version) {
            Some(version) if known.is_some_and(|known| **known == *version) => return,
            Some(version) => drop(self.next.configs.insert(name, version.into())),
            None if known.is_none() => return,
            None => drop(self.next.configs.remove(&name)),
        }
        self.changes.versions = true;
    }

    /// Objects held, by collection.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// Keys that `collection` holds.
    pub fn keys(&self, collection: &'static Collection) -> Vec<ObjectKey> {
        self.objects
            .keys()
            .filter(|(name, _)| *name == collection.name)
            .map(|(_, key)| key.clone())
            .collect()
    }

    /// Takes a new mesh config: every object is read again under it.
    pub fn set_mesh(&mut self, mesh: Mesh) {
        self.next.mesh = Arc::new(mesh);
        self.changes.everything = true;
        let objects: Vec<Object> = self.objects.values().cloned().collect();
        for object in objects {
            let key = ObjectKey::new(&object.meta.namespace, &object.meta.name);
            // It was decoded before, so it is decoded again.
            let _decoded = self.index(object.collection, &key, Some(&object));
        }
    }

    /// Whether endpoint lists are all that changed since the last snapshot.
    pub fn is_endpoints_only(&self) -> bool {
        self.unsettled.is_empty() && self.changes.is_endpoints_only()
    }

    /// Whether anything changed since the last snapshot.
    pub fn is_dirty(&self) -> bool {
        !(self.changes.is_empty() && self.unsettled.is_empty())
    }

    /// The next snapshot, and what may differ from the one before.
    pub fn publish(&mut self) -> (Arc<Snapshot>, Changes) {
        self.settle();
        self.next.version += 1;
        if self.changes.selectors {
            let mentioned = self.mentioned_labels();
            if *self.next.mentioned_labels == mentioned {
                self.changes.selectors = false;
            } else {
                self.next.mentioned_labels = Arc::new(mentioned);
            }
        }
        (
            Arc::new(self.next.clone()),
            std::mem::take(&mut self.changes),
        )
    }

    fn index(
        &mut self,
        collection: &'static Collection,
        key: &ObjectKey,
        object: Option<&Object>,
    ) -> Result<(), Refused> {
        match collection.kind {
            "ServiceEntry" => {
                let synthetic = is_synthetic(collection);
                let config = decode::<api::ServiceEntry>(collection, object)?;
                let declared = match &config {
                    Some(config) => convert(config, synthetic, &self.next.mesh)
                        .map_err(|reason| refused(collection, key, reason))?,
                    None => Vec::new(),
                };
                let created = config.map_or_else(Created::default, |config| config.created);
                self.service_entry(synthetic, key, created, declared);
            }
            "VirtualService" => {
                let config = decode::<api::VirtualService>(collection, object)?;
                self.virtual_service(key, config, version(object));
            }
            "DestinationRule" => {
                let config = decode::<api::DestinationRule>(collection, object)?;
                let rule = config.map(|config| {
                    Arc::new(DestinationRule::new(
                        config,
                        &self.next.mesh,
                        version(object),
                    ))
                });
                self.changes.selectors = true;
                self.changes
                    .rules
                    .extend(self.next.destination_rules.replace(key, rule));
            }
            "Gateway" => {
                match decode::<api::Gateway>(collection, object)? {
                    Some(config) => self.next.gateways.insert(key.clone(), Arc::new(config)),
                    None => self.next.gateways.remove(key),
                };
                self.changes.selectors = true;
                self.changes.gateways = true;
            }
            "Sidecar" => {
                match decode::<api::Sidecar>(collection, object)? {
                    Some(config) => self.next.sidecars.insert(key.clone(), Arc::new(config)),
                    None => self.next.sidecars.remove(key),
                };
                self.changes.selectors = true;
                self.changes.sidecars.insert(key.namespace.clone());
            }
            "PeerAuthentication" => {
                let config = decode(collection, object)?.map(Arc::new);
                self.next.peer_authentications.replace(key, config);
                self.changes.selectors = true;
                self.changes.policies.insert(key.namespace.clone());
            }
            "Policy" | "MeshPolicy" => {
                let source = object.map(Source::read).transpose();
                let source = source.map_err(|error| refused(collection, key, error.to_string()))?;
                self.policy(&(collection.kind, key.clone()), source);
            }
            // Kinds that no generator reads yet are kept, so that pages can show them.
            _ => {}
        }
        Ok(())
    }

    fn service_entry(
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

    /// Unites the declarations of one service and records what came out different.
    fn remerge(&mut self, key: &ServiceKey) {
        let merged = self.declared.get(key).and_then(|declarations| {
            // A Kubernetes Service is never overruled by a ServiceEntry.
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
                (Some(Arc::new(service)), Some(Arc::new(endpoints)))
            }
            None => (None, None),
        };
        let definition = old_service.as_ref().map(|s| s.version)
            != service.as_ref().map(|s: &Arc<Service>| s.version);
        let list = old_endpoints.as_ref().map(|e| e.version)
            != endpoints.as_ref().map(|e: &Arc<Endpoints>| e.version);
        if !definition && !list {
            return;
        }
        if list {
            self.changes.endpoints.insert(key.host.clone());
            self.reindex_addresses(key, old_endpoints.as_deref(), endpoints.as_deref());
        }
        let inline = service.as_ref().is_some_and(|service| {
            // Their addresses are part of clusters or listeners.
            service.resolution != Resolution::ClientSideLb
        });
        // Both are part of clusters: whom servers may be, and whether all take mutual TLS.
        let identities = |endpoints: &Option<Arc<Endpoints>>| {
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
        self.index_alias(key, old_service.as_deref(), service.as_deref());
        self.place(key, service);
        self.follow_service(key);
        self.follow_presence(&key.host, was_known);
    }

    fn place(&mut self, key: &ServiceKey, service: Option<Arc<Service>>) {
        let mut declarations: Vec<Arc<Service>> = self
            .next
            .services
            .get(&key.host)
            .map(|services| services.iter().filter(|s| s.key != *key).cloned().collect())
            .unwrap_or_default();
        if let Some(service) = service {
            self.next.node_local_services |= service.node_local;
            declarations.push(service);
        }
        declarations.sort_by(|a, b| a.by_age(b));
        if declarations.is_empty() {
            self.next.services.remove(&key.host);
        } else {
            self.next
                .services
                .insert(key.host.clone(), declarations.into());
        }
    }

    fn reindex_addresses(
        &mut self,
        key: &ServiceKey,
        old: Option<&Endpoints>,
        new: Option<&Endpoints>,
    ) {
        let targets = |endpoints: Option<&Endpoints>| -> BTreeSet<(Arc<str>, Target)> {
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

    fn virtual_service(
        &mut self,
        key: &ObjectKey,
        config: Option<Config<api::VirtualService>>,
        version: u64,
    ) {
        let root =
            config.map(|config| Arc::new(VirtualService::new(config, &self.next.mesh, version)));
        match root {
            Some(root) => self.roots.insert(key.clone(), root),
            None => self.roots.remove(key),
        };
        // The object itself, and the roots that delegate to it.
        let mut affected: Vec<ObjectKey> = self
            .roots
            .iter()
            .filter(|(_, root)| delegate::refers_to(root, key))
            .map(|(root, _)| root.clone())
            .collect();
        affected.push(key.clone());
        for key in affected {
            let merged = self
                .roots
                .get(&key)
                .map(|root| delegate::merge(root, |wanted| self.roots.get(wanted).cloned()));
            let old = self.next.virtual_services.get(&key).cloned();
            for vs in old.iter().chain(&merged) {
                self.changes
                    .virtual_service_hosts
                    .extend(vs.hosts.iter().cloned());
            }
            self.changes.virtual_services.insert(key.clone());
            self.next.virtual_services.replace(&key, merged);
        }
        self.changes.selectors = true;
    }

    /// Label keys by which any object picks workloads or clients.
    fn mentioned_labels(&self) -> BTreeSet<String> {
        let snapshot = &self.next;
        let mut keys: BTreeSet<String> = snapshot
            .peer_authentications
            .selector_keys()
            .chain(snapshot.destination_rules.selector_keys())
            .cloned()
            .collect();
        keys.extend(
            snapshot
                .gateways
                .values()
                .flat_map(|g| g.spec.selector.keys().cloned()),
        );
        keys.extend(
            snapshot
                .destination_rules
                .failover_keys()
                .map(str::to_owned),
        );
        let mesh = snapshot.mesh.locality_lb.iter().flat_map(failover_labels);
        keys.extend(mesh.map(str::to_owned));
        for sidecar in snapshot.sidecars.values() {
            keys.extend(
                sidecar_selector(&sidecar.spec)
                    .into_iter()
                    .flat_map(|s| s.keys().cloned()),
            );
        }
        for vs in snapshot.virtual_services.iter() {
            let spec = &vs.config.spec;
            let http = spec
                .http
                .iter()
                .flat_map(|r| &r.r#match)
                .map(|m| &m.source_labels);
            let tls = spec
                .tls
                .iter()
                .flat_map(|r| &r.r#match)
                .map(|m| &m.source_labels);
            let tcp = spec
                .tcp
                .iter()
                .flat_map(|r| &r.r#match)
                .map(|m| &m.source_labels);
            keys.extend(
                http.chain(tls)
                    .chain(tcp)
                    .flat_map(|labels| labels.keys().cloned()),
            );
        }
        keys
    }
}

/// One service out of its declarations, the oldest deciding its attributes.
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
    Some((service.hashed(), Endpoints::new(endpoints)))
}

/// Hosts of services that a DestinationRule host covers.
pub fn covered<'a>(snapshot: &'a Snapshot, rule: &'a Host) -> Box<dyn Iterator<Item = Host> + 'a> {
    if rule.is_wildcard() {
        Box::new(
            snapshot
                .services
                .keys()
                .filter(move |host| host.subset_of(rule))
                .cloned(),
        )
    } else {
        Box::new(
            snapshot
                .services
                .get(rule)
                .map(|_| rule.clone())
                .into_iter(),
        )
    }
}
