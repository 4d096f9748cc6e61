//! What one class of clients sees: the services, and which of them each listener offers.

use crate::hashed::Hashed;
use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};
use istio_api::networking::v1alpha3 as api;

use crate::{
    config::Config,
    host::Host,
    mesh::OutboundPolicy,
    protocol::Protocol,
    service::{Registry, Service, ServicePort},
    snapshot::Snapshot,
    virtual_service::VirtualService,
};

/// A host pattern that an egress listener imports, and the namespace to import it from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Import {
    Any(Host),
    Of(Arc<str>, Host),
}

impl Import {
    /// Parses `namespace/host`; `None` for `~/…` and unless there is exactly one slash.
    fn parse(text: &str, own: &Arc<str>) -> Option<Self> {
        let (namespace, host) = text.split_once('/')?;
        if host.contains('/') {
            return None;
        }
        match namespace {
            "~" => None,
            "*" => Some(Self::Any(Host::new(host))),
            "." => Some(Self::Of(own.clone(), Host::new(host))),
            other => Some(Self::Of(other.into(), Host::new(host))),
        }
    }

    fn host_for(&self, namespace: &str) -> Option<&Host> {
        match self {
            Self::Any(host) => Some(host),
            Self::Of(of, host) => (&**of == namespace).then_some(host),
        }
    }
}

/// The services that one egress listener offers.
#[derive(Clone, Debug)]
pub struct EgressListener {
    /// `None` for the catch-all listener, which offers all ports.
    pub port: Option<ServicePort>,
    /// Empty if the address is decided per service.
    pub bind: Arc<str>,
    /// Whether it serves captured traffic; with `captureMode: NONE` it has a socket of its own.
    pub captured: bool,
    /// One service per host: that of the preferred namespace.
    pub services: OrdMap<Host, Arc<Hashed<Service>>>,
    imports: Arc<[Import]>,
    /// Destinations that imported VirtualServices add: host → ports (empty = all).
    implicit: OrdMap<Host, Arc<BTreeSet<u32>>>,
}

impl EgressListener {
    fn imports_service(&self, service: &Service) -> bool {
        self.imports.iter().any(|import| {
            import
                .host_for(service.namespace())
                .is_some_and(|host| service.host().subset_of(host))
        })
    }

    fn imports_virtual_service(&self, vs: &VirtualService) -> bool {
        self.imports.iter().any(|import| {
            import
                .host_for(vs.namespace())
                .is_some_and(|host| vs.hosts.iter().any(|claimed| claimed.overlaps(host)))
        })
    }

    /// The service that this listener uses for `host`.
    fn choose(
        &self,
        snapshot: &Snapshot,
        namespace: &str,
        host: &Host,
    ) -> Option<Arc<Hashed<Service>>> {
        let candidates = snapshot.services.get(host)?;
        let visible = || {
            candidates
                .iter()
                .filter(|s| s.export_to.includes(namespace))
        };
        let imported = preferred(visible().filter(|s| self.imports_service(s)), namespace);
        if let Some(service) = imported {
            return match &self.port {
                None => Some(service.clone()),
                // Unix sockets have no port number; they and HTTP proxies offer all ports.
                Some(port) if port.protocol == Protocol::HttpProxy || port.number == 0 => {
                    Some(service.clone())
                }
                Some(port) => trim(service, &BTreeSet::from([port.number])),
            };
        }
        let ports = self.implicit.get(host)?;
        preferred(visible(), namespace).and_then(|service| trim(service, ports))
    }
}

/// The client's own namespace, else a Kubernetes service, else the oldest.
fn preferred<'a>(
    candidates: impl Iterator<Item = &'a Arc<Hashed<Service>>>,
    namespace: &str,
) -> Option<&'a Arc<Hashed<Service>>> {
    candidates.min_by(|a, b| {
        let rank = |s: &Service| {
            (
                s.namespace() != namespace,
                s.registry != Registry::Kubernetes,
            )
        };
        rank(a).cmp(&rank(b)).then_with(|| a.by_age(b))
    })
}

/// The service reduced to `ports`; unchanged if `ports` is empty.
fn trim(service: &Arc<Hashed<Service>>, ports: &BTreeSet<u32>) -> Option<Arc<Hashed<Service>>> {
    if ports.is_empty()
        || service
            .ports
            .iter()
            .all(|port| ports.contains(&port.number))
    {
        return Some(service.clone());
    }
    let mut trimmed = Service::clone(service);
    trimmed.ports.retain(|port| ports.contains(&port.number));
    if trimmed.ports.is_empty() {
        return None;
    }
    Some(Arc::new(Hashed::new(trimmed)))
}

/// What clients of one namespace see, with or without a Sidecar.
#[derive(Clone, Debug)]
pub struct Scope {
    /// Namespace of the clients.
    pub namespace: Arc<str>,
    /// The Sidecar that applies, if any.
    pub sidecar: Option<Arc<Config<api::Sidecar>>>,
    /// In the order of the Sidecar; the catch-all, if any, is last.
    pub listeners: Vec<EgressListener>,
    /// Union over the listeners; the first has priority.
    pub services: OrdMap<Host, Arc<Hashed<Service>>>,
    /// Hosts of `services` by port number.
    pub by_port: OrdMap<u32, OrdSet<Host>>,
    /// What happens to traffic for unknown hosts.
    pub outbound_policy: OutboundPolicy,
}

impl Scope {
    /// The scope of proxies of `namespace` with `sidecar`; without one, everything visible.
    pub fn build(
        snapshot: &Snapshot,
        namespace: &Arc<str>,
        sidecar: Option<&Arc<Config<api::Sidecar>>>,
    ) -> Self {
        let mut scope = Self {
            namespace: namespace.clone(),
            sidecar: sidecar.cloned(),
            listeners: egress_listeners(sidecar.map(|sidecar| &*sidecar.spec), namespace),
            services: OrdMap::new(),
            by_port: OrdMap::new(),
            outbound_policy: outbound_policy(snapshot, sidecar.map(|s| &*s.spec)),
        };
        for listener in &mut scope.listeners {
            listener.implicit = implicit_destinations(snapshot, namespace, listener);
        }
        let hosts: Vec<Host> = snapshot.services.keys().cloned().collect();
        scope.refresh(snapshot, &hosts);
        scope
    }

    /// The scope of proxies of another namespace, made from a copy of this one, so that equal parts
    /// are shared. Only for scopes without a Sidecar.
    pub fn fork(&self, snapshot: &Snapshot, namespace: &Arc<str>) -> Self {
        if self.sidecar.is_some() {
            return Self::build(snapshot, namespace, None);
        }
        let mut scope = self.clone();
        scope.namespace = namespace.clone();
        scope.outbound_policy = outbound_policy(snapshot, None);
        let fresh = egress_listeners(None, namespace);
        for (listener, fresh) in scope.listeners.iter_mut().zip(fresh) {
            listener.imports = fresh.imports;
            listener.implicit = implicit_destinations(snapshot, namespace, listener);
        }
        let mut hosts: Vec<Host> = snapshot.services.keys().cloned().collect();
        hosts.extend(
            self.services
                .keys()
                .filter(|h| !snapshot.services.contains_key(*h))
                .cloned(),
        );
        scope.refresh(snapshot, &hosts);
        scope
    }

    /// Whether a change of a VirtualService can change the services of this scope.
    pub fn depends_on_virtual_services(&self) -> bool {
        self.sidecar.is_some()
    }

    /// Decides again which services are used for `hosts`.
    pub fn refresh(&mut self, snapshot: &Snapshot, hosts: &[Host]) {
        for host in hosts {
            let mut chosen: Option<Arc<Hashed<Service>>> = None;
            for listener in &mut self.listeners {
                match listener.choose(snapshot, &self.namespace, host) {
                    Some(service) => {
                        chosen = Some(match chosen {
                            Some(first) => unite(&first, &service),
                            None => service.clone(),
                        });
                        let held = listener.services.get(host);
                        if !held.is_some_and(|held| Arc::ptr_eq(held, &service)) {
                            listener.services.insert(host.clone(), service);
                        }
                    }
                    None if listener.services.contains_key(host) => {
                        listener.services.remove(host);
                    }
                    None => {}
                }
            }
            self.set(host, chosen);
        }
    }

    fn set(&mut self, host: &Host, service: Option<Arc<Hashed<Service>>>) {
        let same = match (self.services.get(host), &service) {
            (Some(old), Some(new)) => Arc::ptr_eq(old, new),
            (None, None) => true,
            _ => false,
        };
        if same {
            return;
        }
        if let Some(old) = self.services.remove(host) {
            for port in &old.ports {
                if let Some(hosts) = self.by_port.get_mut(&port.number) {
                    hosts.remove(host);
                    if hosts.is_empty() {
                        self.by_port.remove(&port.number);
                    }
                }
            }
        }
        if let Some(service) = service {
            for port in &service.ports {
                self.by_port
                    .entry(port.number)
                    .or_default()
                    .insert(host.clone());
            }
            self.services.insert(host.clone(), service);
        }
    }

    /// Whether this scope sees a mesh VirtualService at all.
    pub fn sees(&self, vs: &VirtualService) -> bool {
        vs.applies_in_mesh(&self.namespace)
            && (self.sidecar.is_none()
                || self
                    .listeners
                    .iter()
                    .any(|listener| listener.imports_virtual_service(vs)))
    }

    /// The VirtualService that applies to `host` for these clients.
    pub fn virtual_service<'a>(
        &self,
        snapshot: &'a Snapshot,
        host: &Host,
    ) -> Option<&'a Arc<Hashed<VirtualService>>> {
        snapshot.virtual_services.for_host(host, |vs| self.sees(vs))
    }

    /// The listener that serves route `port`: the one on that port, else the catch-all.
    pub fn listener_for(&self, port: u32) -> Option<&EgressListener> {
        self.listeners
            .iter()
            .find(|listener| listener.port.as_ref().is_some_and(|p| p.number == port))
            .or_else(|| {
                self.listeners
                    .iter()
                    .find(|listener| listener.port.is_none())
            })
    }
}

/// Merges two trimmed forms of a service: it has the ports of both.
fn unite(first: &Arc<Hashed<Service>>, second: &Arc<Hashed<Service>>) -> Arc<Hashed<Service>> {
    let missing: Vec<ServicePort> = second
        .ports
        .iter()
        .filter(|port| first.port(port.number).is_none())
        .cloned()
        .collect();
    if missing.is_empty() || first.key != second.key {
        return first.clone();
    }
    let mut united = Service::clone(first);
    united.ports.extend(missing);
    Arc::new(Hashed::new(united))
}

fn egress_listeners(sidecar: Option<&api::Sidecar>, own: &Arc<str>) -> Vec<EgressListener> {
    let everything = || EgressListener {
        port: None,
        bind: "".into(),
        captured: true,
        services: OrdMap::new(),
        imports: [Import::Any(Host::new("*"))].into(),
        implicit: OrdMap::new(),
    };
    let Some(sidecar) = sidecar.filter(|sidecar| !sidecar.egress.is_empty()) else {
        return vec![everything()];
    };
    let mut listeners: Vec<EgressListener> = sidecar
        .egress
        .iter()
        .map(|egress| EgressListener {
            port: egress.port.as_ref().map(|port| ServicePort {
                name: port.name.as_str().into(),
                number: port.number,
                protocol: Protocol::parse(&port.protocol),
                target_port: 0,
            }),
            bind: egress.bind.as_str().into(),
            captured: egress.capture_mode() != api::CaptureMode::None,
            imports: egress
                .hosts
                .iter()
                .filter_map(|host| Import::parse(host, own))
                .collect(),
            ..everything()
        })
        .collect();
    listeners.sort_by_key(|listener| listener.port.is_none());
    listeners
}

/// Hosts to which the VirtualServices imported by `listener` send traffic, with the ports that
/// they name. The default listener sees every host anyway.
fn implicit_destinations(
    snapshot: &Snapshot,
    namespace: &Arc<str>,
    listener: &EgressListener,
) -> OrdMap<Host, Arc<BTreeSet<u32>>> {
    let mut hosts = OrdMap::new();
    if matches!(&*listener.imports, [Import::Any(host)] if host.as_str() == "*") {
        return hosts;
    }
    for vs in snapshot.virtual_services.iter() {
        if vs.applies_in_mesh(namespace) && listener.imports_virtual_service(vs) {
            for host in vs.destinations(namespace) {
                hosts.insert(host, Arc::new(BTreeSet::new()));
            }
        }
    }
    hosts
}

fn outbound_policy(snapshot: &Snapshot, sidecar: Option<&api::Sidecar>) -> OutboundPolicy {
    match sidecar.and_then(|sidecar| sidecar.outbound_traffic_policy.as_ref()) {
        Some(policy) if policy.mode() == api::outbound_traffic_policy::Mode::RegistryOnly => {
            OutboundPolicy::RegistryOnly
        }
        Some(_) => OutboundPolicy::AllowAny,
        None => snapshot.mesh.outbound_policy,
    }
}
