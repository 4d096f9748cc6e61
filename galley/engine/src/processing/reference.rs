//! VirtualServices that route to hosts that nothing declares. This is only a warning: pilot may
//! know the host from elsewhere, or it may be declared later.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::time::{Duration, Instant};

use istio_api::mcp::v1alpha1::Resource;
use istio_api::networking::v1alpha3::{ServiceEntry, VirtualService};
use prost::Message;

use super::synthesis::Names;

/// Minimum time that a host must be missing: objects that belong together rarely come together.
pub const PATIENCE: Duration = Duration::from_secs(2);

type Name = Arc<str>;

#[derive(Debug, Default, Clone, Copy)]
struct Missing {
    since: Option<Instant>,
    told: bool,
}

/// Declared hosts, and the VirtualServices that route to them.
#[derive(Debug, Default)]
pub struct References {
    /// Declared hosts, wildcards included, with the number of declarations.
    declared: BTreeMap<String, usize>,
    hosts_of_entry: HashMap<(&'static str, Name), Vec<String>>,
    hosts_of_route: HashMap<Name, BTreeSet<String>>,
    routes_to: BTreeMap<String, BTreeSet<Name>>,
    missing: BTreeMap<(Name, String), Missing>,
}

impl References {
    /// Applies a ServiceEntry of a collection, or its deletion.
    pub fn entry(&mut self, collection: &'static str, name: &Name, resource: Option<&Resource>) {
        let slot = (collection, name.clone());
        let hosts = body::<ServiceEntry>(resource)
            .map(|entry| entry.hosts)
            .unwrap_or_default();
        let former = if hosts.is_empty() {
            self.hosts_of_entry.remove(&slot)
        } else {
            self.hosts_of_entry.insert(slot, hosts.clone())
        };
        let former = former.unwrap_or_default();
        if former == hosts {
            return;
        }
        for host in &hosts {
            *self.declared.entry(host.clone()).or_default() += 1;
        }
        for host in &former {
            if let Some(count) = self.declared.get_mut(host) {
                *count -= 1;
                if *count == 0 {
                    self.declared.remove(host);
                }
            }
        }
        for host in former.iter().chain(&hosts) {
            self.recheck(host);
        }
    }

    /// Applies a VirtualService, or its deletion.
    pub fn route(&mut self, name: &Name, resource: Option<&Resource>, names: &Names) {
        let namespace = name.split('/').next().unwrap_or_default();
        let hosts: BTreeSet<String> = body::<VirtualService>(resource)
            .map(|route| destinations(&route))
            .unwrap_or_default()
            .into_iter()
            .map(|host| {
                if host.contains('.') {
                    host
                } else {
                    names.host(namespace, &host)
                }
            })
            .collect();
        let former = self.hosts_of_route.remove(name).unwrap_or_default();
        for host in former.difference(&hosts) {
            if let Some(routes) = self.routes_to.get_mut(host) {
                routes.remove(name);
                if routes.is_empty() {
                    self.routes_to.remove(host);
                }
            }
            self.missing.remove(&(name.clone(), host.clone()));
        }
        for host in &hosts {
            self.routes_to
                .entry(host.clone())
                .or_default()
                .insert(name.clone());
            self.check(name, host);
        }
        if !hosts.is_empty() {
            self.hosts_of_route.insert(name.clone(), hosts);
        }
    }

    /// A host, or for a wildcard all hosts below it, may have become declared or missing.
    fn recheck(&mut self, host: &str) {
        let affected: Vec<_> = match host.strip_prefix('*') {
            None => self.routes_to.get_key_value(host).into_iter().collect(),
            Some(suffix) => self
                .routes_to
                .iter()
                .filter(|(host, _)| host.ends_with(suffix))
                .collect(),
        };
        let affected: Vec<_> = affected
            .into_iter()
            .flat_map(|(host, routes)| routes.iter().map(|route| (route.clone(), host.clone())))
            .collect();
        for (route, host) in affected {
            self.check(&route, &host);
        }
    }

    fn check(&mut self, route: &Name, host: &str) {
        let slot = (route.clone(), host.to_owned());
        if self.is_declared(host) {
            self.missing.remove(&slot);
        } else {
            self.missing.entry(slot).or_default();
        }
    }

    fn is_declared(&self, host: &str) -> bool {
        let mut suffixes = host
            .match_indices('.')
            .filter_map(|(dot, _)| host.get(dot..));
        self.declared.contains_key(host)
            || self.declared.contains_key("*")
            || suffixes.any(|suffix| self.declared.contains_key(&format!("*{suffix}")))
    }

    /// VirtualServices (`namespace/name`) and hosts that have been missing for long enough to be
    /// reported, each once; and when to ask again.
    pub fn overdue(&mut self, now: Instant) -> (Vec<(Name, String)>, Option<Instant>) {
        let (mut told, mut next) = (Vec::new(), None::<Instant>);
        for ((route, host), missing) in &mut self.missing {
            if missing.told {
                continue;
            }
            let due = *missing.since.get_or_insert(now) + PATIENCE;
            if due <= now {
                missing.told = true;
                told.push((route.clone(), host.clone()));
            } else {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        (told, next)
    }

    /// All hosts that are missing now.
    pub fn missing(&self) -> impl Iterator<Item = &(Name, String)> {
        self.missing.keys()
    }
}

fn body<M: Message + Default>(resource: Option<&Resource>) -> Option<M> {
    // We encoded the object, so that it decodes; otherwise others report it.
    M::decode(resource?.body.as_ref()?.value.as_slice()).ok()
}

fn destinations(route: &VirtualService) -> Vec<String> {
    let mut hosts = Vec::new();
    for http in &route.http {
        hosts.extend(http.route.iter().filter_map(|to| to.destination.as_ref()));
        hosts.extend(&http.mirror);
        hosts.extend(
            http.mirrors
                .iter()
                .filter_map(|mirror| mirror.destination.as_ref()),
        );
    }
    for tcp in &route.tcp {
        hosts.extend(tcp.route.iter().filter_map(|to| to.destination.as_ref()));
    }
    for tls in &route.tls {
        hosts.extend(tls.route.iter().filter_map(|to| to.destination.as_ref()));
    }
    hosts
        .into_iter()
        .map(|to| to.host.clone())
        .filter(|host| !host.is_empty())
        .collect()
}

#[cfg(test)]
mod tests;
