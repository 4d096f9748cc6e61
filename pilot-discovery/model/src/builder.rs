//! The only writer: receives changed objects, publishes snapshots and reports what may differ.

mod alias;
mod credentials;
mod policies;
mod read;
mod routes;
mod services;

use crate::hashed::Hashed;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use istio_api::{collections::Collection, networking::v1alpha3 as api, object::Object};
use istio_rules::conversion::Source;

use crate::{
    authn::legacy::{Policies, Unit},
    changes::Changes,
    config::{ConfigName, Created, is_synthetic, is_traced},
    destination_rule::DestinationRule,
    gateway,
    host::Host,
    key::ObjectKey,
    lookup::Lookups,
    mesh::Mesh,
    service::ServiceKey,
    service_entry::{Declared, convert},
    snapshot::Snapshot,
    virtual_service::VirtualService,
};

pub use read::Refused;
use read::{decode, refused};

/// Identifies a declaration of a service; the order decides between several.
type DeclarationId = (Created, ObjectKey, bool);

/// Mutable indices from which snapshots are published. Owned by one task.
#[derive(Debug, Default)]
pub struct Builder {
    next: Snapshot,
    changes: Changes,
    /// The mesh settings of `next` were set and are counted in `lookups`.
    is_started: bool,
    /// Hosts and namespaces that each ServiceEntry declares; the flag marks synthetic ones.
    entries: BTreeMap<(bool, ObjectKey), (Created, Vec<ServiceKey>)>,
    declared: BTreeMap<ServiceKey, BTreeMap<DeclarationId, Declared>>,
    /// VirtualServices before their delegates are merged in.
    roots: BTreeMap<ObjectKey, Arc<Hashed<VirtualService>>>,
    /// Roots by the delegates that they name, whether or not these exist.
    delegators: BTreeMap<ObjectKey, BTreeSet<ObjectKey>>,
    lookups: Lookups,
    /// Policies and MeshPolicies of 1.1.
    policies: Policies,
    /// Namespaces with a target of Policies whose decision changed.
    unsettled: BTreeSet<Arc<str>>,
    /// PeerAuthentications converted from them, by the unit that they belong to.
    converted: BTreeMap<Unit, BTreeMap<ObjectKey, Object>>,
    /// Encoded objects, to decode them again when the mesh config changes.
    objects: BTreeMap<(&'static str, ObjectKey), Object>,
}

impl Builder {
    /// An empty mesh with these settings.
    pub fn new(mesh: Mesh) -> Self {
        let mut builder = Self::default();
        builder.take_mesh(mesh);
        builder
    }

    /// Sets the object of `key` in `collection`; `None` removes it.
    ///
    /// # Errors
    /// If the body cannot be decoded; the last good version stays in force.
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

    /// Records the version of an object, for the next snapshot.
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

    /// The objects of all collections.
    pub fn objects(&self) -> impl Iterator<Item = &Object> {
        self.objects.values()
    }

    /// Keys of the objects in `collection`.
    pub fn keys(&self, collection: &'static Collection) -> Vec<ObjectKey> {
        let first = (collection.name, ObjectKey::new("", ""));
        let of_collection = self.objects.range(first..).map(|(id, _)| id);
        of_collection
            .take_while(|(name, _)| *name == collection.name)
            .map(|(_, key)| key.clone())
            .collect()
    }

    /// Sets a new mesh config: every object is decoded again with it.
    pub fn set_mesh(&mut self, mesh: Mesh) {
        self.take_mesh(mesh);
        let objects: Vec<Object> = self.objects.values().cloned().collect();
        for object in objects {
            let key = ObjectKey::new(&object.meta.namespace, &object.meta.name);
            // Cannot fail, as it was decoded before.
            let _decoded = self.index(object.collection, &key, Some(&object));
        }
    }

    fn take_mesh(&mut self, mesh: Mesh) {
        let old = self.is_started.then(|| self.next.mesh.lookup());
        self.is_started = true;
        self.lookups.replace(old, Some(mesh.lookup()));
        self.next.mesh = Arc::new(Hashed::new(mesh));
        self.changes.everything = true;
    }

    /// Whether only endpoint lists changed since the last snapshot.
    pub fn is_endpoints_only(&self) -> bool {
        self.unsettled.is_empty() && self.changes.is_endpoints_only()
    }

    /// Whether anything changed since the last snapshot.
    pub fn is_dirty(&self) -> bool {
        !(self.changes.is_empty() && self.unsettled.is_empty())
    }

    /// The next snapshot, and what may differ from the previous one.
    pub fn publish(&mut self) -> (Arc<Snapshot>, Changes) {
        self.settle();
        self.next.version += 1;
        let lookup = self.lookups.total();
        if *self.next.lookup != lookup {
            self.next.lookup = Arc::new(lookup);
            self.changes.lookup = true;
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
                self.virtual_service(key, config);
            }
            "DestinationRule" => {
                let config = decode::<api::DestinationRule>(collection, object)?;
                let rule =
                    config.map(|config| Arc::new(DestinationRule::new(config, &self.next.mesh)));
                let new = rule.as_ref().map(|rule| rule.lookup());
                let (old, hosts) = self.next.destination_rules.replace(key, rule);
                self.lookups.replace(old.map(|rule| rule.lookup()), new);
                self.changes.rules.extend(hosts);
            }
            "Gateway" => {
                let config = decode::<api::Gateway>(collection, object)?.map(Arc::new);
                let new = config.as_ref().map(|config| gateway::lookup(config));
                let old = match config {
                    Some(config) => self.next.gateways.insert(key.clone(), config),
                    None => self.next.gateways.remove(key),
                };
                let old = old.as_ref().map(|config| gateway::lookup(config));
                self.lookups.replace(old, new);
                self.changes.gateways = true;
            }
            "Sidecar" => {
                match decode::<api::Sidecar>(collection, object)? {
                    Some(config) => self.next.sidecars.insert(key.clone(), Arc::new(config)),
                    None => self.next.sidecars.remove(key),
                };
                self.changes.sidecars.insert(key.namespace.clone());
            }
            "PeerAuthentication" => {
                let config = decode(collection, object)?.map(Arc::new);
                self.peer_authentication(key, config);
            }
            "Policy" | "MeshPolicy" => {
                let source = object.map(Source::read).transpose();
                let source = source.map_err(|error| refused(collection, key, error.to_string()))?;
                self.policy(&(collection.kind, key.clone()), source);
            }
            // Kinds that no generator reads yet are kept for the debug pages.
            _ => {}
        }
        Ok(())
    }
}

/// Hosts of the services that a host of a DestinationRule or VirtualService covers.
pub fn covered<'a>(snapshot: &'a Snapshot, rule: &'a Host) -> Box<dyn Iterator<Item = Host> + 'a> {
    if rule.is_wildcard() {
        Box::new(snapshot.hosts_below(rule).cloned())
    } else {
        let known = snapshot.services.get_key_value(rule);
        Box::new(known.map(|(host, _)| host.clone()).into_iter())
    }
}
