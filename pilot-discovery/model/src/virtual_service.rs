//! VirtualServices with resolved names, and an index by their hosts.

use crate::hashed::Hashed;
use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};
use istio_api::networking::v1alpha3 as api;

use crate::{
    config::{Config, ConfigRef, Labels, Visibility},
    host::Host,
    key::ObjectKey,
    lookup::Lookup,
    mesh::Mesh,
};

pub mod delegate;

/// Name of the implied gateway that stands for all sidecars.
pub const MESH_GATEWAY: &str = "mesh";

/// A VirtualService whose hosts, destinations and gateways are written in full.
#[derive(Clone, Debug, Hash)]
pub struct VirtualService {
    /// The object, with its hosts written in full.
    pub config: Config<api::VirtualService>,
    /// Lower case, resolved in the namespace of the object. Empty for a delegate.
    pub hosts: Vec<Host>,
    /// `mesh` or `<namespace>/<name>`; never empty.
    pub gateways: Vec<Arc<str>>,
    /// Namespaces that may see it (`exportTo`).
    pub export_to: Visibility,
    /// Delegates that were merged into it.
    pub delegates: Vec<ConfigRef>,
    /// Delegates that it names and that could not be merged, with the reason.
    pub unresolved: Vec<(ObjectKey, &'static str)>,
}

impl VirtualService {
    /// Resolves every name in `config` relative to its own namespace.
    pub fn new(mut config: Config<api::VirtualService>, mesh: &Mesh) -> Self {
        let namespace = config.reference.namespace.clone();
        let domain = mesh.domain.clone();
        let resolve = |host: &mut String| {
            *host = Host::resolve(host, &namespace, &domain).as_str().to_owned();
        };
        for_each_destination(&mut config.spec, |destination| {
            resolve(&mut destination.host)
        });
        let hosts: Vec<Host> = config
            .spec
            .hosts
            .iter()
            .map(|host| Host::resolve(host, &namespace, &domain))
            .collect();
        config.spec.hosts = hosts.iter().map(ToString::to_string).collect();
        let gateways = |names: &[String]| -> Vec<String> {
            names
                .iter()
                .map(|name| resolve_gateway(name, &namespace))
                .collect()
        };
        if config.spec.gateways.is_empty() {
            config.spec.gateways = vec![MESH_GATEWAY.to_owned()];
        }
        config.spec.gateways = gateways(&config.spec.gateways);
        for http in &mut config.spec.http {
            for matched in &mut http.r#match {
                matched.gateways = gateways(&matched.gateways);
            }
        }
        for tls in &mut config.spec.tls {
            for matched in &mut tls.r#match {
                matched.gateways = gateways(&matched.gateways);
            }
        }
        for tcp in &mut config.spec.tcp {
            for matched in &mut tcp.r#match {
                matched.gateways = gateways(&matched.gateways);
            }
        }
        Self {
            export_to: Visibility::parse(
                &config.spec.export_to,
                &namespace,
                &mesh.virtual_service_export_to,
            ),
            gateways: config
                .spec
                .gateways
                .iter()
                .map(|g| g.as_str().into())
                .collect(),
            hosts,
            delegates: Vec::new(),
            unresolved: Vec::new(),
            config,
        }
    }

    /// Namespace of the object.
    pub fn namespace(&self) -> &str {
        self.config.namespace()
    }

    /// Label keys of clients that its routes match on.
    pub(crate) fn lookup(&self) -> Lookup {
        let spec = &self.config.spec;
        let http = spec.http.iter().flat_map(|route| &route.r#match);
        let tls = spec.tls.iter().flat_map(|route| &route.r#match);
        let tcp = spec.tcp.iter().flat_map(|route| &route.r#match);
        let labels = http
            .map(|matched| &matched.source_labels)
            .chain(tls.map(|matched| &matched.source_labels))
            .chain(tcp.map(|matched| &matched.source_labels));
        Lookup {
            clients: labels.flat_map(Labels::keys).cloned().collect(),
            ..Lookup::default()
        }
    }

    /// Whether it is bound to `gateway`: `mesh` or `<namespace>/<name>`.
    pub fn binds(&self, gateway: &str) -> bool {
        self.gateways.iter().any(|bound| &**bound == gateway)
    }

    /// Whether it applies to sidecars of `namespace`.
    pub fn applies_in_mesh(&self, namespace: &str) -> bool {
        self.binds(MESH_GATEWAY) && self.export_to.includes(namespace)
    }

    /// All destination hosts of all routes.
    pub fn all_destinations(&self) -> BTreeSet<Host> {
        self.destinations_where(|_| true)
    }

    /// All destination hosts of the routes that apply to clients of `namespace`: routes whose
    /// matches all require other source namespaces are left out.
    pub fn destinations(&self, namespace: &str) -> BTreeSet<Host> {
        self.destinations_where(|http| {
            http.r#match.is_empty()
                || http.r#match.iter().any(|matched| {
                    matched.source_namespace.is_empty() || matched.source_namespace == namespace
                })
        })
    }

    fn destinations_where(&self, applies: impl Fn(&api::HttpRoute) -> bool) -> BTreeSet<Host> {
        let mut hosts = BTreeSet::new();
        let mut add = |destination: Option<&api::Destination>| {
            if let Some(destination) = destination.filter(|d| !d.host.is_empty()) {
                hosts.insert(Host::new(&destination.host));
            }
        };
        let spec = &self.config.spec;
        for http in &spec.http {
            if !applies(http) {
                continue;
            }
            http.route
                .iter()
                .for_each(|route| add(route.destination.as_ref()));
            add(http.mirror.as_ref());
            http.mirrors
                .iter()
                .for_each(|mirror| add(mirror.destination.as_ref()));
        }
        let tls = spec.tls.iter().flat_map(|tls| &tls.route);
        let tcp = spec.tcp.iter().flat_map(|tcp| &tcp.route);
        tls.chain(tcp)
            .for_each(|route| add(route.destination.as_ref()));
        hosts
    }
}

fn for_each_destination(
    spec: &mut api::VirtualService,
    mut visit: impl FnMut(&mut api::Destination),
) {
    for http in &mut spec.http {
        http.route
            .iter_mut()
            .filter_map(|r| r.destination.as_mut())
            .for_each(&mut visit);
        http.mirror.iter_mut().for_each(&mut visit);
        http.mirrors
            .iter_mut()
            .filter_map(|m| m.destination.as_mut())
            .for_each(&mut visit);
    }
    for tls in &mut spec.tls {
        tls.route
            .iter_mut()
            .filter_map(|r| r.destination.as_mut())
            .for_each(&mut visit);
    }
    for tcp in &mut spec.tcp {
        tcp.route
            .iter_mut()
            .filter_map(|r| r.destination.as_mut())
            .for_each(&mut visit);
    }
}

/// Resolves a gateway reference in any accepted form to `mesh` or `<namespace>/<name>`.
pub fn resolve_gateway(name: &str, namespace: &str) -> String {
    if name == MESH_GATEWAY {
        return name.to_owned();
    }
    match name.split_once('/') {
        Some((".", name)) => format!("{namespace}/{name}"),
        Some(_) => name.to_owned(),
        // Legacy form: `name.namespace.svc.domain`.
        None => match name.split('.').collect::<Vec<_>>().as_slice() {
            [name, namespace, ..] => format!("{namespace}/{name}"),
            _ => format!("{namespace}/{name}"),
        },
    }
}

/// All VirtualServices, by object, by exact host and by gateway.
#[derive(Clone, Debug, Default)]
pub struct VirtualServices {
    by_key: OrdMap<ObjectKey, Arc<Hashed<VirtualService>>>,
    /// Oldest first; wildcard hosts as written.
    by_host: OrdMap<Host, Arc<[Arc<Hashed<VirtualService>>]>>,
    /// Hosts of `by_host` by their letters in reverse, to find hosts with a common suffix.
    by_end: OrdMap<Arc<str>, Host>,
    /// Hosts of `by_host` that start with `*`.
    wildcards: OrdSet<Host>,
    /// Objects bound to a gateway, by its `<namespace>/<name>`.
    by_gateway: OrdMap<Arc<str>, OrdSet<ObjectKey>>,
    /// Objects that send traffic to a host.
    by_destination: OrdMap<Host, OrdSet<ObjectKey>>,
}

impl VirtualServices {
    /// The VirtualService with this key.
    pub fn get(&self, key: &ObjectKey) -> Option<&Arc<Hashed<VirtualService>>> {
        self.by_key.get(key)
    }

    /// All VirtualServices.
    pub fn iter(&self) -> impl Iterator<Item = &Arc<Hashed<VirtualService>>> {
        self.by_key.values()
    }

    /// Number of VirtualServices.
    pub fn len(&self) -> usize {
        self.by_key.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_key.is_empty()
    }

    /// Sets the VirtualService of `key`; `None` removes it.
    pub fn replace(&mut self, key: &ObjectKey, new: Option<Arc<Hashed<VirtualService>>>) {
        if let Some(old) = self.by_key.remove(key) {
            for host in &old.hosts {
                self.unlist(host, key);
            }
            for host in old.all_destinations() {
                unlink(&mut self.by_destination, &host, key);
            }
            for gateway in &old.gateways {
                unlink(&mut self.by_gateway, gateway, key);
            }
        }
        if let Some(new) = new {
            for host in &new.hosts {
                self.list(host, &new);
            }
            for host in new.all_destinations() {
                self.by_destination
                    .entry(host)
                    .or_default()
                    .insert(key.clone());
            }
            for gateway in &new.gateways {
                let bound = self.by_gateway.entry(gateway.clone()).or_default();
                bound.insert(key.clone());
            }
            self.by_key.insert(key.clone(), new);
        }
    }

    /// Objects with a host that covers some name that `host` covers: which of them applies may
    /// depend on the others.
    pub fn overlapping(&self, host: &Host) -> BTreeSet<ObjectKey> {
        let mut found = BTreeSet::new();
        let mut add = |host: &Host| {
            let claims = self
                .by_host
                .get(host)
                .into_iter()
                .flat_map(|all| all.iter());
            found.extend(claims.map(|claim| ObjectKey::of(&claim.config)));
        };
        add(host);
        if !self.wildcards.is_empty() {
            host.find_wildcard(|wildcard| {
                add(wildcard);
                None::<()>
            });
        }
        if let Some(tail) = host.tail() {
            let end = Host::new(tail).reversed();
            let below = self.by_end.range(end.clone()..);
            below
                .take_while(|(reversed, _)| reversed.starts_with(&*end))
                .for_each(|(_, host)| add(host));
        }
        found
    }

    /// Objects that send traffic to `host`.
    pub fn sending_to(&self, host: &Host) -> impl Iterator<Item = &Arc<Hashed<VirtualService>>> {
        self.by_destination
            .get(host)
            .into_iter()
            .flatten()
            .filter_map(|key| self.by_key.get(key))
    }

    fn list(&mut self, host: &Host, new: &Arc<Hashed<VirtualService>>) {
        let mut claims: Vec<_> = self.by_host.get(host).map_or_else(Vec::new, |c| c.to_vec());
        if claims
            .iter()
            .any(|claim| claim.config.reference == new.config.reference)
        {
            return;
        }
        if claims.is_empty() && host.is_wildcard() {
            self.wildcards.insert(host.clone());
        }
        self.by_end.insert(host.reversed(), host.clone());
        claims.push(new.clone());
        claims.sort_by(|a, b| a.config.by_age(&b.config));
        self.by_host.insert(host.clone(), claims.into());
    }

    fn unlist(&mut self, host: &Host, key: &ObjectKey) {
        let Some(claims) = self.by_host.get(host) else {
            return;
        };
        let left: Arc<[_]> = claims
            .iter()
            .filter(|claim| !key.names(&claim.config))
            .cloned()
            .collect();
        if left.is_empty() {
            self.by_host.remove(host);
            self.by_end.remove(&host.reversed());
            self.wildcards.remove(host);
        } else {
            self.by_host.insert(host.clone(), left);
        }
    }

    /// The VirtualService that applies to `host` among those that `accept` allows: the oldest that
    /// names it exactly, else the oldest with the most specific wildcard.
    pub fn for_host(
        &self,
        host: &Host,
        accept: impl Fn(&VirtualService) -> bool,
    ) -> Option<&Arc<Hashed<VirtualService>>> {
        let oldest = |host: &Host| {
            self.by_host
                .get(host)
                .and_then(|claims| claims.iter().find(|claim| accept(claim)))
        };
        let exact = oldest(host);
        if exact.is_some() || self.wildcards.is_empty() {
            return exact;
        }
        host.find_wildcard(|wildcard| {
            let is_claimed = self.wildcards.contains(wildcard);
            is_claimed.then(|| oldest(wildcard)).flatten()
        })
    }

    /// Those bound to `gateway` (`<namespace>/<name>`) and visible in `namespace`: private ones,
    /// then exported ones, then public ones, each oldest first.
    pub fn for_gateway(&self, gateway: &str, namespace: &str) -> Vec<Arc<Hashed<VirtualService>>> {
        let bound = self.by_gateway.get(gateway).into_iter().flatten();
        let mut bound: Vec<(u8, Arc<Hashed<VirtualService>>)> = bound
            .filter_map(|key| self.by_key.get(key))
            .filter(|vs| !vs.hosts.is_empty())
            .filter(|vs| vs.export_to.includes(namespace))
            .map(|vs| {
                let rank = match &vs.export_to {
                    visibility if visibility.is_private(vs.namespace()) => 0,
                    Visibility::Public => 2,
                    _ => 1,
                };
                (rank, vs.clone())
            })
            .collect();
        bound.sort_by(|(rank_a, a), (rank_b, b)| {
            rank_a.cmp(rank_b).then_with(|| a.config.by_age(&b.config))
        });
        bound.into_iter().map(|(_, vs)| vs).collect()
    }
}

fn unlink<K: Ord + Clone>(index: &mut OrdMap<K, OrdSet<ObjectKey>>, of: &K, key: &ObjectKey) {
    if let Some(keys) = index.get_mut(of) {
        keys.remove(key);
        if keys.is_empty() {
            index.remove(of);
        }
    }
}
