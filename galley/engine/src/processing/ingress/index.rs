//! All Ingresses with their references, indexed so that a change rebuilds only what the changed
//! Ingresses contribute to.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};
use std::sync::Arc;

use istio_api::collections;
use istio_api::manifest::Key;
use istio_api::mcp::v1alpha1::Metadata;
use prost::Message;
use prost_types::Timestamp;
use xxhash_rust::xxh3::xxh3_64;

use super::convert::{self, Converted, Issue, Ports};
use super::select::{CONTROLLER, Settings};
use crate::native::{Ingress, Native};
use crate::object::Config;

const GROUP: &str = "networking.istio.io";
/// Makes pilot match prefixes by whole path elements.
const SEMANTICS: (&str, &str) = ("internal.istio.io/route-semantics", "ingress");

/// `namespace/name`.
type Name = Arc<str>;

/// The result of a rebuild.
#[derive(Debug, Default)]
pub struct Made {
    /// Gateways and VirtualServices by kind and `namespace/name`; `None` for a deleted one.
    pub resources: BTreeMap<(&'static str, Name), Option<Config>>,
    /// Parts without effect, of the Ingresses that were converted; empty lists included.
    pub issues: BTreeMap<Name, Vec<Issue>>,
}

/// Older Ingresses come first; an unknown age counts as the oldest. Equal ages are ordered by name.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Order {
    created: Option<(i64, i32)>,
    namespace: Arc<str>,
    name: Arc<str>,
}

/// An Ingress of our class.
#[derive(Debug)]
struct Taken {
    ingress: Arc<Ingress>,
    order: Order,
    gateway: Name,
    converted: Converted,
}

/// The VirtualService of a host: the name derived from its first Ingress, and its actual name.
#[derive(Debug)]
struct Named {
    wanted: Name,
    name: Name,
}

/// All Ingresses.
#[derive(Debug)]
pub struct Ingresses {
    settings: Settings,
    known: HashMap<Name, Arc<Ingress>>,
    /// IngressClasses of our controller.
    classes: HashSet<Name>,
    of_class: HashMap<Name, BTreeSet<Name>>,
    taken: HashMap<Name, Taken>,
    /// Ingresses that refer to ports of a Service by name.
    users: HashMap<Name, BTreeSet<Name>>,
    /// Ingresses of our class, by host.
    hosts: HashMap<String, BTreeMap<Order, Name>>,
    virtual_services: HashMap<String, Named>,
    /// Hosts by preferred name: `a.b` and `a-b` prefer the same.
    wanted: HashMap<Name, BTreeSet<String>>,
    dirty: BTreeSet<Name>,
}

impl Ingresses {
    /// An empty index.
    pub fn new(settings: Settings) -> Self {
        Self {
            settings,
            known: HashMap::new(),
            classes: HashSet::new(),
            of_class: HashMap::new(),
            taken: HashMap::new(),
            users: HashMap::new(),
            hosts: HashMap::new(),
            virtual_services: HashMap::new(),
            wanted: HashMap::new(),
            dirty: BTreeSet::new(),
        }
    }

    /// New settings, or new names of services: every Ingress is converted again.
    pub fn reconfigure(&mut self, settings: Settings) {
        self.settings = settings;
        self.dirty.extend(self.known.keys().cloned());
    }

    /// Applies the object in force of an identity, or its deletion.
    pub fn apply(&mut self, key: &Key, object: Option<&Native>) {
        let name: Name = key.full_name().into();
        match key.kind {
            "Ingress" => {
                let ingress = match object {
                    Some(Native::Ingress(ingress)) => Some(ingress.clone()),
                    _ => None,
                };
                self.ingress(name, ingress);
            }
            "IngressClass" => {
                let is_ours = matches!(object, Some(Native::IngressClass(class))
                    if class.controller == CONTROLLER);
                let changed = if is_ours {
                    self.classes.insert(name.clone())
                } else {
                    self.classes.remove(&name)
                };
                if changed && let Some(ingresses) = self.of_class.get(&name) {
                    self.dirty.extend(ingresses.iter().cloned());
                }
            }
            "Service" => {
                if let Some(users) = self.users.get(&name) {
                    self.dirty.extend(users.iter().cloned());
                }
            }
            _ => {}
        }
    }

    fn ingress(&mut self, name: Name, ingress: Option<Arc<Ingress>>) {
        let class = |ingress: &Arc<Ingress>| ingress.class.clone();
        let new_class = ingress.as_ref().and_then(class);
        let former = match ingress {
            Some(ingress) => self.known.insert(name.clone(), ingress),
            None => self.known.remove(&name),
        };
        if let Some(class) = former.as_ref().and_then(class) {
            forget(&mut self.of_class, &class, &name);
        }
        if let Some(class) = new_class {
            self.of_class.entry(class).or_default().insert(name.clone());
        }
        self.dirty.insert(name);
    }

    /// Rebuilds everything that has changed since the last call.
    pub fn rebuild(&mut self, ports: &impl Ports) -> Made {
        let mut made = Made::default();
        let mut hosts = BTreeSet::new();
        for name in std::mem::take(&mut self.dirty) {
            let former = self.taken.remove(&name);
            if let Some(former) = &former {
                self.unlink(&name, former);
                let gateway = ("Gateway", former.gateway.clone());
                made.resources.entry(gateway).or_insert(None);
            }
            let is_ours = |ingress: &&Arc<Ingress>| {
                self.settings
                    .select(ingress, |class| self.classes.contains(class))
            };
            let taken = self.known.get(&name).filter(is_ours).map(|ingress| {
                let gateway = convert::gateway_name(ingress);
                Taken {
                    ingress: ingress.clone(),
                    order: order(ingress),
                    gateway: format!("{}/{gateway}", self.settings.namespace).into(),
                    converted: convert::routes(ingress, ports),
                }
            });
            hosts.extend(touched(former.as_ref(), taken.as_ref()));
            let issues = taken.as_ref().map(|taken| taken.converted.issues.clone());
            made.issues.insert(name.clone(), issues.unwrap_or_default());
            if let Some(taken) = taken {
                let gateway = convert::gateway(&taken.ingress, &self.settings);
                let created = taken.ingress.created;
                let config = config("Gateway", &taken.gateway, created, &gateway, false);
                let slot = ("Gateway", taken.gateway.clone());
                made.resources.insert(slot, config);
                self.link(&name, &taken);
                self.taken.insert(name, taken);
            }
        }
        self.remake(hosts, &mut made);
        made
    }

    fn link(&mut self, name: &Name, taken: &Taken) {
        for host in taken.converted.hosts.keys() {
            let ingresses = self.hosts.entry(host.clone()).or_default();
            ingresses.insert(taken.order.clone(), name.clone());
        }
        for service in &taken.converted.named {
            let users = self.users.entry(service.clone()).or_default();
            users.insert(name.clone());
        }
    }

    fn unlink(&mut self, name: &Name, taken: &Taken) {
        for host in taken.converted.hosts.keys() {
            if let Some(ingresses) = self.hosts.get_mut(host) {
                ingresses.remove(&taken.order);
                if ingresses.is_empty() {
                    self.hosts.remove(host);
                }
            }
        }
        for service in &taken.converted.named {
            forget(&mut self.users, service, name);
        }
    }

    /// Rebuilds the VirtualServices of `hosts`, and of hosts whose name changes as a result.
    fn remake(&mut self, mut hosts: BTreeSet<String>, made: &mut Made) {
        let mut contended = BTreeSet::new();
        for host in &hosts {
            let wanted = self.first(host).map(|first| -> Name {
                let name = convert::virtual_service_name(host, &first.ingress.name);
                format!("{}/{name}", first.ingress.namespace).into()
            });
            if let Some(former) = self.virtual_services.remove(host) {
                forget(&mut self.wanted, &former.wanted, host);
                contended.insert(former.wanted);
                let slot = ("VirtualService", former.name);
                made.resources.insert(slot, None);
            }
            if let Some(wanted) = wanted {
                let others = self.wanted.entry(wanted.clone()).or_default();
                others.insert(host.clone());
                contended.insert(wanted.clone());
                let name = wanted.clone();
                let named = Named { wanted, name };
                self.virtual_services.insert(host.clone(), named);
            }
        }
        for wanted in contended {
            let rivals = self.wanted.get(&wanted).cloned().unwrap_or_default();
            if rivals.len() > 1 {
                // A name may move to another host: all are set again after deletions.
                hosts.extend(rivals.iter().cloned());
            }
            for (i, host) in rivals.into_iter().enumerate() {
                let name = match i {
                    0 => wanted.clone(),
                    // Depends on the host alone, so that it stays when other hosts change.
                    _ => format!("{wanted}-{:08x}", xxh3_64(host.as_bytes()) >> 32).into(),
                };
                let Some(named) = self.virtual_services.get_mut(&host) else {
                    continue;
                };
                if named.name != name {
                    let former = std::mem::replace(&mut named.name, name);
                    let slot = ("VirtualService", former);
                    made.resources.entry(slot).or_insert(None);
                    hosts.insert(host);
                }
            }
        }
        for host in hosts {
            if let Some((name, config)) = self.virtual_service(&host) {
                made.resources.insert(("VirtualService", name), config);
            }
        }
    }

    fn first(&self, host: &str) -> Option<&Taken> {
        let (_, name) = self.hosts.get(host)?.first_key_value()?;
        self.taken.get(name)
    }

    fn virtual_service(&self, host: &str) -> Option<(Name, Option<Config>)> {
        let name = self.virtual_services.get(host)?.name.clone();
        let created = self.first(host)?.ingress.created;
        let ingresses = self.hosts.get(host)?.values();
        let contributions = ingresses.filter_map(|name| {
            let taken = self.taken.get(name)?;
            let routes = taken.converted.hosts.get(host)?;
            Some((taken.gateway.to_string(), routes.as_slice()))
        });
        let body = convert::virtual_service(host, contributions);
        let config = body.and_then(|body| config("VirtualService", &name, created, &body, true));
        Some((name, config))
    }
}

/// Hosts that are affected when `former` becomes `taken`.
fn touched(former: Option<&Taken>, taken: Option<&Taken>) -> Vec<String> {
    let hosts = |taken: Option<&Taken>| -> BTreeSet<String> {
        let hosts = taken.into_iter().flat_map(|t| t.converted.hosts.keys());
        hosts.cloned().collect()
    };
    let all = &hosts(former) | &hosts(taken);
    let (Some(former), Some(taken)) = (former, taken) else {
        return all.into_iter().collect();
    };
    let is_same = former.order == taken.order && former.gateway == taken.gateway;
    let (was, is) = (&former.converted.hosts, &taken.converted.hosts);
    all.into_iter()
        .filter(|host| !is_same || was.get(host) != is.get(host))
        .collect()
}

fn order(ingress: &Ingress) -> Order {
    let created = ingress.created.as_ref();
    Order {
        created: created.map(|time| (time.seconds, time.nanos)),
        namespace: ingress.namespace.clone(),
        name: ingress.name.clone(),
    }
}

fn config(
    kind: &str,
    name: &Name,
    create_time: Option<Timestamp>,
    body: &impl Message,
    has_semantics: bool,
) -> Option<Config> {
    let (annotation, value) = SEMANTICS;
    let annotation = has_semantics.then(|| (annotation.to_owned(), value.to_owned()));
    let metadata = Metadata {
        name: name.to_string(),
        create_time,
        annotations: annotation.into_iter().collect(),
        ..Metadata::default()
    };
    let collection = collections::by_gvk(GROUP, kind)?;
    Some(Config::new(collection, metadata, body.encode_to_vec()))
}

fn forget<K: std::hash::Hash + Eq, V: Ord>(map: &mut HashMap<K, BTreeSet<V>>, key: &K, value: &V) {
    if let Some(values) = map.get_mut(key) {
        values.remove(value);
        if values.is_empty() {
            map.remove(key);
        }
    }
}

#[cfg(test)]
mod tests;
