//! What clients that see the same services the same way are sent.

mod difference;

use crate::kind::Kind;
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use imbl::{OrdMap, OrdSet};
use pilot_model::{
    class::{Client, OutboundClass},
    host::Host,
    key::ObjectKey,
    proxy::ProxyType,
    scope::Scope,
    snapshot::Snapshot,
};

use difference::{exchange, note, replace, replace_all};

use super::{
    cache::{Cache, Made},
    dirt::Dirt,
    group::Side,
};
use crate::{
    cluster,
    endpoint::{self, Uses},
    gateway, listener,
    manifest::{Manifests, put},
    resource::Resource,
    route::{self, outbound::RouteName},
};

/// Who put virtual hosts into a route configuration.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Owner {
    Service(Host),
    VirtualService(ObjectKey),
}

/// An outbound class with what it was last made of.
#[derive(Debug)]
pub struct Outbound {
    class: OutboundClass,
    scope: Scope,
    manifests: Arc<Manifests>,
    // Persistent maps, so that a class which is forked from another shares with it.
    clusters: OrdMap<Host, Arc<Made>>,
    endpoints: OrdMap<Host, Arc<Made>>,
    virtual_hosts: OrdMap<Owner, Arc<route::outbound::virtual_hosts::Built>>,
    /// Who contributes to a route configuration.
    routes: OrdMap<RouteName, OrdSet<Owner>>,
    listeners: BTreeMap<u32, Arc<Made>>,
    /// Clusters and listeners that there are whatever services there are.
    fixed_clusters: Vec<Arc<Resource>>,
    fixed_listeners: Vec<Arc<Resource>>,
    /// Hosts that a gateway's routes send traffic to; sidecars see all of their scope.
    referenced: Option<BTreeSet<Host>>,
    /// Hosts that a gateway passes mutual TLS through to.
    passed_through: BTreeSet<Host>,
}

impl Side for Outbound {
    fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }
}

impl Outbound {
    /// What the proxies of the class are to hold.
    pub fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }

    /// Makes everything that the class is sent.
    pub fn new(snapshot: &Snapshot, class: OutboundClass, cache: &mut Cache) -> Self {
        let mut outbound = Self {
            scope: Scope::build(snapshot, &class.namespace, sidecar(snapshot, &class)),
            class,
            manifests: Arc::default(),
            clusters: OrdMap::new(),
            endpoints: OrdMap::new(),
            virtual_hosts: OrdMap::new(),
            routes: OrdMap::new(),
            listeners: BTreeMap::new(),
            fixed_clusters: Vec::new(),
            fixed_listeners: Vec::new(),
            referenced: None,
            passed_through: BTreeSet::new(),
        };
        let mut next = Manifests::default();
        outbound.rebuild(snapshot, cache, &mut next);
        outbound.manifests = Arc::new(next);
        outbound
    }

    /// Whether a class can be forked from this one: they differ in their namespace only, and no
    /// Sidecar rules them.
    pub fn is_like(&self, class: &OutboundClass) -> bool {
        let own = &self.class;
        own.kind == ProxyType::Sidecar
            && own.sidecar.is_none()
            && *class
                == OutboundClass {
                    namespace: class.namespace.clone(),
                    dns_domain: class.dns_domain.clone(),
                    ..own.clone()
                }
    }

    /// Another class, made by changing a copy of this one: what is the same is shared.
    pub fn fork(&self, snapshot: &Snapshot, class: OutboundClass, cache: &mut Cache) -> Self {
        let mut outbound = Self {
            scope: self.scope.fork(snapshot, &class.namespace),
            class,
            manifests: self.manifests.clone(),
            clusters: self.clusters.clone(),
            endpoints: self.endpoints.clone(),
            virtual_hosts: self.virtual_hosts.clone(),
            routes: self.routes.clone(),
            listeners: self.listeners.clone(),
            fixed_clusters: self.fixed_clusters.clone(),
            fixed_listeners: self.fixed_listeners.clone(),
            referenced: None,
            passed_through: BTreeSet::new(),
        };
        let mut next = Manifests::clone(&self.manifests);
        outbound.rebuild(snapshot, cache, &mut next);
        outbound.manifests = Arc::new(next);
        outbound
    }

    /// The class.
    pub fn class(&self) -> &OutboundClass {
        &self.class
    }

    /// The services that it sees.
    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    /// Follows `snapshot`.
    pub fn update(&mut self, snapshot: &Snapshot, dirt: &Dirt, cache: &mut Cache) {
        let mut next = Manifests::clone(&self.manifests);
        let scope_rules = self.scope.depends_on_virtual_services() && dirt.virtual_services_changed;
        let is_gateway = self.class.kind == ProxyType::Router;
        if dirt.all || scope_rules || is_gateway && dirt.gateways {
            self.scope = Scope::build(
                snapshot,
                &self.class.namespace,
                sidecar(snapshot, &self.class),
            );
            self.rebuild(snapshot, cache, &mut next);
        } else {
            self.follow(snapshot, dirt, cache, &mut next);
            if is_gateway && dirt.credentials.contains(&self.class.namespace) {
                self.make_secrets(snapshot, &mut next);
            }
        }
        if !self.manifests.is_untouched(&next) {
            self.manifests = Arc::new(next);
        }
    }

    /// Makes everything again, what is unchanged out of the cache.
    fn rebuild(&mut self, snapshot: &Snapshot, cache: &mut Cache, next: &mut Manifests) {
        if self.class.kind == ProxyType::Router {
            let client = self.client(snapshot);
            let (referenced, passed_through) = (
                gateway::referenced_hosts(&client),
                gateway::sni_dnat_hosts(&client),
            );
            self.referenced = Some(referenced);
            self.passed_through = passed_through;
        }
        let mut hosts: BTreeSet<Host> = self.scope.services.keys().cloned().collect();
        hosts.extend(self.clusters.keys().cloned());
        for host in &hosts {
            self.make_clusters(snapshot, host, cache, next);
            self.make_endpoints(snapshot, host, cache, next);
        }
        self.make_fixed(snapshot, next);
        let client = self.client(snapshot);
        match self.class.kind {
            ProxyType::Sidecar => {
                let mut ports = listener::outbound::ports(&client);
                ports.extend(self.listeners.keys().copied());
                for port in ports {
                    self.make_listeners(snapshot, port, cache, next);
                }
                // Those without an owner, too, which there may be no reason for any more.
                let mut touched: BTreeSet<RouteName> = next[Kind::Route].keys().cloned().collect();
                let mut owners: BTreeSet<Owner> = self.virtual_hosts.keys().cloned().collect();
                owners.extend(hosts.iter().cloned().map(Owner::Service));
                owners.extend(
                    snapshot
                        .virtual_services
                        .iter()
                        .map(|vs| Owner::VirtualService(ObjectKey::of(&vs.config))),
                );
                for owner in owners {
                    self.make_virtual_hosts(snapshot, &owner, cache, &mut touched, next);
                }
                touched.extend(route::outbound::fixed_names(&self.client(snapshot)));
                self.assemble(snapshot, &touched, next);
            }
            ProxyType::Router => {
                self.make_gateway(snapshot, next);
                self.make_secrets(snapshot, next);
            }
        }
    }

    /// Makes again what the change touches.
    fn follow(
        &mut self,
        snapshot: &Snapshot,
        dirt: &Dirt,
        cache: &mut Cache,
        next: &mut Manifests,
    ) {
        let mut ports: BTreeSet<u32> = BTreeSet::new();
        let note_ports = |scope: &Scope, ports: &mut BTreeSet<u32>| {
            for host in &dirt.listeners {
                // Of a service that itself stays as it is, rules and routes reach into listeners
                // of raw connections only. (A Sidecar may make such a one of any port.)
                let itself = dirt.services.contains(host) || scope.sidecar.is_some();
                if let Some(service) = scope.services.get(host) {
                    let concerned = service.ports.iter();
                    let concerned = concerned.filter(|port| itself || !port.protocol.is_http());
                    ports.extend(concerned.map(|port| port.number));
                }
                // An egress listener with a port of its own takes services of any port.
                let own = scope.listeners.iter();
                let own = own.filter(|listener| listener.services.contains_key(host));
                ports.extend(own.filter_map(|listener| Some(listener.port.as_ref()?.number)));
            }
        };
        note_ports(&self.scope, &mut ports);
        if !dirt.services.is_empty() {
            let hosts: Vec<Host> = dirt.services.iter().cloned().collect();
            self.scope.refresh(snapshot, &hosts);
            note_ports(&self.scope, &mut ports);
        }
        for host in &dirt.clusters {
            self.make_clusters(snapshot, host, cache, next);
        }
        for host in &dirt.endpoints {
            self.make_endpoints(snapshot, host, cache, next);
        }
        if self.class.kind == ProxyType::Router {
            return;
        }
        for port in ports {
            self.make_listeners(snapshot, port, cache, next);
        }
        let mut touched = BTreeSet::new();
        for host in &dirt.routes {
            let owner = Owner::Service(host.clone());
            self.make_virtual_hosts(snapshot, &owner, cache, &mut touched, next);
        }
        for key in &dirt.virtual_services {
            let owner = Owner::VirtualService(key.clone());
            self.make_virtual_hosts(snapshot, &owner, cache, &mut touched, next);
        }
        self.assemble(snapshot, &touched, next);
    }

    fn client<'a>(&'a self, snapshot: &'a Snapshot) -> Client<'a> {
        Client {
            snapshot,
            class: &self.class,
            scope: &self.scope,
        }
    }

    /// In which ways this class sends traffic to `host`.
    fn uses(&self, host: &Host) -> Uses {
        Uses {
            routed: self
                .referenced
                .as_ref()
                .is_none_or(|hosts| hosts.contains(host)),
            passed_through: self.passed_through.contains(host),
        }
    }

    fn make_clusters(
        &mut self,
        snapshot: &Snapshot,
        host: &Host,
        cache: &mut Cache,
        next: &mut Manifests,
    ) {
        let uses = self.uses(host);
        let built = self
            .scope
            .services
            .get(host)
            .filter(|_| uses.any())
            .map(|service| {
                let inputs = cluster::outbound::gather(&self.client(snapshot), service, uses);
                let clusters = &mut cache.clusters;
                clusters.get_or_build(&inputs, |inputs| cluster::outbound::build(inputs).into())
            });
        let Some(old) = replace(&mut self.clusters, host, built.as_ref()) else {
            return;
        };
        exchange(
            &mut next[Kind::Cluster],
            old.iter().flat_map(|old| &old.resources),
            built.iter().flat_map(|built| &built.resources),
        );
        let skipped = built.iter().flat_map(|built| &built.skipped);
        note(next, format!("cluster {host}"), skipped);
    }

    fn make_endpoints(
        &mut self,
        snapshot: &Snapshot,
        host: &Host,
        cache: &mut Cache,
        next: &mut Manifests,
    ) {
        let uses = self.uses(host);
        let built = self
            .scope
            .services
            .get(host)
            .filter(|_| uses.any())
            .map(|service| {
                let inputs = endpoint::gather(&self.client(snapshot), service, uses);
                let endpoints = &mut cache.endpoints;
                endpoints.get_or_build(&inputs, |inputs| endpoint::build(inputs).into())
            });
        let Some(old) = replace(&mut self.endpoints, host, built.as_ref()) else {
            return;
        };
        exchange(
            &mut next[Kind::Endpoint],
            old.iter().flat_map(|old| &old.resources),
            built.iter().flat_map(|built| &built.resources),
        );
    }

    fn make_listeners(
        &mut self,
        snapshot: &Snapshot,
        port: u32,
        cache: &mut Cache,
        next: &mut Manifests,
    ) {
        let client = self.client(snapshot);
        let built = listener::outbound::ports(&client).contains(&port).then(|| {
            let inputs = listener::outbound::gather_port(&client, port);
            cache
                .listeners
                .get_or_build(&inputs, |inputs| listener::outbound::build(inputs).into())
        });
        let old = match &built {
            Some(built) => self.listeners.insert(port, built.clone()),
            None => self.listeners.remove(&port),
        };
        exchange(
            &mut next[Kind::Listener],
            old.iter().flat_map(|old| &old.resources),
            built.iter().flat_map(|built| &built.resources),
        );
        let skipped = built.iter().flat_map(|built| &built.skipped);
        note(next, format!("listener {port}"), skipped);
    }

    fn make_fixed(&mut self, snapshot: &Snapshot, next: &mut Manifests) {
        let client = self.client(snapshot);
        let clusters: Vec<_> = cluster::fixed(&client).into_iter().map(Arc::new).collect();
        let listeners: Vec<_> = listener::outbound::virtual_outbound(&client)
            .into_iter()
            .chain(listener::outbound::http_proxy(&client))
            .map(Arc::new)
            .collect();
        exchange(&mut next[Kind::Cluster], &self.fixed_clusters, &clusters);
        exchange(&mut next[Kind::Listener], &self.fixed_listeners, &listeners);
        self.fixed_clusters = clusters;
        self.fixed_listeners = listeners;
    }

    fn make_virtual_hosts(
        &mut self,
        snapshot: &Snapshot,
        owner: &Owner,
        cache: &mut Cache,
        touched: &mut BTreeSet<RouteName>,
        next: &mut Manifests,
    ) {
        let client = self.client(snapshot);
        let inputs = match owner {
            Owner::Service(host) => self
                .scope
                .services
                .contains_key(host)
                .then(|| route::outbound::virtual_hosts::gather(&client, host)),
            Owner::VirtualService(key) => snapshot
                .virtual_services
                .get(key)
                .filter(|vs| self.scope.sees(vs))
                .map(|vs| route::outbound::for_virtual_service(&client, vs)),
        };
        let built = inputs.map(|inputs| {
            cache
                .virtual_hosts
                .get_or_build(&inputs, route::outbound::virtual_hosts::build)
        });
        let Some(old) = replace(&mut self.virtual_hosts, owner, built.as_ref()) else {
            return;
        };
        let label = match owner {
            Owner::Service(host) => format!("route {host}"),
            Owner::VirtualService(key) => format!("route {}/{}", key.namespace, key.name),
        };
        note(next, label, built.iter().flat_map(|built| &built.skipped));
        for (name, _) in old.iter().flat_map(|old| &old.by_route) {
            if let Some(owners) = self.routes.get_mut(name) {
                owners.remove(owner);
            }
            touched.insert(name.clone());
        }
        for (name, _) in built.iter().flat_map(|new| &new.by_route) {
            self.routes
                .entry(name.clone())
                .or_default()
                .insert(owner.clone());
            touched.insert(name.clone());
        }
    }

    fn assemble(
        &mut self,
        snapshot: &Snapshot,
        touched: &BTreeSet<RouteName>,
        next: &mut Manifests,
    ) {
        let fixed = route::outbound::fixed_names(&self.client(snapshot));
        let none = OrdSet::new();
        for name in touched {
            let owners = self.routes.get(name).unwrap_or(&none);
            if owners.is_empty() && !fixed.contains(name) {
                self.routes.remove(name);
                next[Kind::Route].remove(name);
                note(next, format!("assembly {name}"), std::iter::empty());
                continue;
            }
            let entries = owners
                .iter()
                .filter_map(|owner| self.virtual_hosts.get(owner))
                .flat_map(|built| &built.by_route)
                .filter(|(route, _)| route == name)
                .map(|(_, entry)| entry);
            let client = self.client(snapshot);
            let (resource, skipped) = route::outbound::assemble(&client, name, entries);
            put(&mut next[Kind::Route], Arc::new(resource));
            note(next, format!("assembly {name}"), &skipped);
        }
    }

    fn make_gateway(&self, snapshot: &Snapshot, next: &mut Manifests) {
        let client = self.client(snapshot);
        let mut skipped = replace_all(&mut next[Kind::Listener], gateway::listeners(&client));
        skipped.extend(replace_all(
            &mut next[Kind::Route],
            gateway::routes(&client),
        ));
        note(next, "gateway".to_owned(), &skipped);
    }

    fn make_secrets(&self, snapshot: &Snapshot, next: &mut Manifests) {
        let built = gateway::secrets(&self.client(snapshot));
        let skipped = replace_all(&mut next[Kind::Secret], built);
        let unit = format!("secrets of gateways in {}", self.class.namespace);
        note(next, unit, &skipped);
    }
}

fn sidecar<'a>(
    snapshot: &'a Snapshot,
    class: &OutboundClass,
) -> Option<&'a Arc<pilot_model::config::Config<istio_api::networking::v1alpha3::Sidecar>>> {
    let (namespace, name) = class.sidecar.as_deref()?.split_once('/')?;
    snapshot.sidecars.get(&ObjectKey::new(namespace, name))
}
