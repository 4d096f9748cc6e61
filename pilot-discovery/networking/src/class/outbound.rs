//! What clients that see the same services the same way are sent.

mod difference;

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

use difference::{exchange, is_untouched, note, replace, replace_all, same};

use super::{
    cache::{Cache, Made},
    dirt::Dirt,
};
use crate::{
    cluster, endpoint, gateway, listener,
    manifest::{Manifests, put},
    resource::Built,
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
    /// Hosts that a gateway's routes send traffic to; sidecars see all of their scope.
    referenced: Option<BTreeSet<Host>>,
    /// Hosts that a gateway passes mutual TLS through to.
    passed_through: BTreeSet<Host>,
}

impl Outbound {
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
            referenced: None,
            passed_through: BTreeSet::new(),
        };
        let mut next = Manifests::clone(&self.manifests);
        outbound.rebuild(snapshot, cache, &mut next);
        outbound.manifests = Arc::new(next);
        outbound
    }

    pub fn class(&self) -> &OutboundClass {
        &self.class
    }

    pub fn scope(&self) -> &Scope {
        &self.scope
    }

    pub fn manifests(&self) -> &Arc<Manifests> {
        &self.manifests
    }

    /// Follows `snapshot`; `true` when the manifests changed.
    pub fn update(&mut self, snapshot: &Snapshot, dirt: &Dirt, cache: &mut Cache) -> bool {
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
        let changed = !same(&self.manifests, &next);
        if changed || !is_untouched(&self.manifests, &next) {
            self.manifests = Arc::new(next);
        }
        changed
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
        let client = self.client(snapshot);
        for resource in cluster::fixed(&client) {
            put(&mut next.clusters, Arc::new(resource));
        }
        match self.class.kind {
            ProxyType::Sidecar => {
                let mut ports = listener::outbound::ports(&client);
                ports.extend(self.listeners.keys().copied());
                for port in ports {
                    self.make_listeners(snapshot, port, cache, next);
                }
                self.make_fixed_listeners(snapshot, next);
                let mut touched: BTreeSet<RouteName> = self.routes.keys().cloned().collect();
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

    /// What this class is to be told of `host`.
    fn work(&self, host: &Host) -> Work {
        Work {
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
        let work = self.work(host);
        let built = self
            .scope
            .services
            .get(host)
            .filter(|_| work.any())
            .map(|service| {
                let inputs = cluster::outbound::gather(&self.client(snapshot), service);
                cache.clusters.get_or_build(inputs.key() ^ work.key(), || {
                    let mut built = Built::default();
                    if work.routed {
                        built = cluster::outbound::build(&inputs);
                    }
                    if work.passed_through {
                        let more = cluster::outbound::build_sni_dnat(&inputs);
                        built.resources.extend(more.resources);
                        built.skipped.extend(more.skipped);
                    }
                    built.into()
                })
            });
        let Some(old) = replace(&mut self.clusters, host, built.as_ref()) else {
            return;
        };
        exchange(
            &mut next.clusters,
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
        let work = self.work(host);
        let built = self
            .scope
            .services
            .get(host)
            .filter(|_| work.any())
            .map(|service| {
                let inputs = endpoint::gather(&self.client(snapshot), service);
                cache.endpoints.get_or_build(inputs.key() ^ work.key(), || {
                    let mut resources = Vec::new();
                    if work.routed {
                        resources = endpoint::build(&inputs);
                    }
                    if work.passed_through {
                        resources.extend(endpoint::build_sni_dnat(&inputs));
                    }
                    Made::from(Built {
                        resources,
                        skipped: Vec::new(),
                    })
                })
            });
        let Some(old) = replace(&mut self.endpoints, host, built.as_ref()) else {
            return;
        };
        exchange(
            &mut next.endpoints,
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
                .get_or_build(inputs.key(), || listener::outbound::build(&inputs).into())
        });
        let old = match &built {
            Some(built) => self.listeners.insert(port, built.clone()),
            None => self.listeners.remove(&port),
        };
        exchange(
            &mut next.listeners,
            old.iter().flat_map(|old| &old.resources),
            built.iter().flat_map(|built| &built.resources),
        );
        let skipped = built.iter().flat_map(|built| &built.skipped);
        note(next, format!("listener {port}"), skipped);
    }

    fn make_fixed_listeners(&self, snapshot: &Snapshot, next: &mut Manifests) {
        let client = self.client(snapshot);
        let fixed = listener::outbound::virtual_outbound(&client)
            .into_iter()
            .chain(listener::outbound::http_proxy(&client));
        for resource in fixed {
            put(&mut next.listeners, Arc::new(resource));
        }
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
            cache.virtual_hosts.get_or_build(inputs.key(), || {
                route::outbound::virtual_hosts::build(&inputs)
            })
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
        let nobody = OrdSet::new();
        for name in touched {
            let owners = self.routes.get(name).unwrap_or(&nobody);
            if owners.is_empty() && !fixed.contains(name) {
                self.routes.remove(name);
                next.routes.remove(name);
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
            put(&mut next.routes, Arc::new(resource));
            note(next, format!("assembly {name}"), &skipped);
        }
    }

    fn make_gateway(&self, snapshot: &Snapshot, next: &mut Manifests) {
        let client = self.client(snapshot);
        let mut skipped = Vec::new();
        for (set, built) in [
            (&mut next.listeners, gateway::listeners(&client)),
            (&mut next.routes, gateway::routes(&client)),
        ] {
            skipped.extend(replace_all(set, built));
        }
        note(next, "gateway".to_owned(), &skipped);
    }

    fn make_secrets(&self, snapshot: &Snapshot, next: &mut Manifests) {
        let built = gateway::secrets(&self.client(snapshot));
        let skipped = replace_all(&mut next.secrets, built);
        let unit = format!("secrets of gateways in {}", self.class.namespace);
        note(next, unit, &skipped);
    }
}

/// In which ways a class sends traffic to a host.
#[derive(Clone, Copy, Debug)]
struct Work {
    routed: bool,
    passed_through: bool,
}

impl Work {
    fn any(self) -> bool {
        self.routed || self.passed_through
    }

    /// Tells the shared results of the same inputs apart.
    fn key(self) -> u128 {
        u128::from(self.passed_through) << 1 | u128::from(self.routed)
    }
}

fn sidecar<'a>(
    snapshot: &'a Snapshot,
    class: &OutboundClass,
) -> Option<&'a Arc<pilot_model::config::Config<istio_api::networking::v1alpha3::Sidecar>>> {
    let (namespace, name) = class.sidecar.as_deref()?.split_once('/')?;
    snapshot.sidecars.get(&ObjectKey::new(namespace, name))
}
