//! Hosts: which service each stands for, and which ones overlap.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::ops::Bound;

use super::Resource;
use crate::analysis::kubernetes::Service;
use crate::analysis::selection::Labels;
use istio_api::networking::v1alpha3::ServiceEntry;
use istio_api::well_known::annotations;

/// Scope of what every namespace sees.
pub(in crate::analysis) const EVERYWHERE: &str = "*";

/// The full form of a host that an object of `namespace` names.
pub(in crate::analysis) fn full(host: &str, namespace: &str) -> String {
    if host.contains('.') || host.starts_with('*') {
        host.to_owned()
    } else {
        format!("{host}.{namespace}.svc.cluster.local")
    }
}

/// Namespaces that see something: its `exportTo`, resolved.
pub(in crate::analysis) fn scopes<'a>(
    export_to: impl IntoIterator<Item = &'a str>,
    namespace: &str,
) -> BTreeSet<String> {
    let scopes: BTreeSet<String> = export_to
        .into_iter()
        .map(str::trim)
        .filter(|scope| !scope.is_empty())
        .map(|scope| if scope == "." { namespace } else { scope }.to_owned())
        .collect();
    if scopes.is_empty() || scopes.contains(EVERYWHERE) {
        return [EVERYWHERE.to_owned()].into();
    }
    scopes
}

/// What is behind a host.
#[derive(Debug, Clone, Default)]
pub(in crate::analysis) struct Target {
    /// Ports that clients use.
    pub(in crate::analysis) ports: BTreeSet<u32>,
    /// Labels of its workloads; empty if it selects none.
    pub(in crate::analysis) selector: Labels,
    /// Labels of endpoints that it lists itself.
    pub(in crate::analysis) endpoints: Vec<Labels>,
    /// Namespace that its endpoints are in.
    pub(in crate::analysis) namespace: String,
}

/// All hosts of Services and ServiceEntries.
#[derive(Debug, Default)]
pub(in crate::analysis) struct Hosts {
    targets: Vec<Target>,
    /// By host and scope; `wildcards` are without their star.
    exact: HashMap<String, BTreeMap<String, usize>>,
    wildcards: HashMap<String, BTreeMap<String, usize>>,
    all: Matcher,
}

impl Hosts {
    pub(super) fn new(services: &[Resource<Service>], entries: &[Resource<ServiceEntry>]) -> Self {
        let mut hosts = Self::default();
        for entry in entries {
            let spec = &entry.spec;
            let target = Target {
                ports: spec.ports.iter().map(|port| port.number).collect(),
                selector: spec
                    .workload_selector
                    .as_ref()
                    .map(|selector| selector.labels.clone())
                    .unwrap_or_default(),
                endpoints: spec
                    .endpoints
                    .iter()
                    .map(|one| one.labels.clone())
                    .collect(),
                namespace: entry.namespace().to_owned(),
            };
            let export_to = spec.export_to.iter().map(String::as_str);
            let scopes = scopes(export_to, entry.namespace());
            let names = spec.hosts.iter();
            hosts.add(
                names.map(|host| full(host, entry.namespace())),
                &scopes,
                target,
            );
        }
        for service in services {
            let target = Target {
                ports: service.spec.ports.iter().map(|port| port.port).collect(),
                selector: service.spec.selector.clone(),
                endpoints: Vec::new(),
                namespace: service.namespace().to_owned(),
            };
            let export_to = service.head.annotations.get(annotations::EXPORT_TO);
            let export_to = export_to.into_iter().flat_map(|names| names.split(','));
            let scopes = scopes(export_to, service.namespace());
            hosts.add([full(service.name(), service.namespace())], &scopes, target);
        }
        hosts
    }

    fn add(
        &mut self,
        names: impl IntoIterator<Item = String>,
        scopes: &BTreeSet<String>,
        target: Target,
    ) {
        let index = self.targets.len();
        self.targets.push(target);
        for name in names {
            self.all.add(&name, index);
            let (map, key) = match name.strip_prefix('*') {
                Some(tail) => (&mut self.wildcards, tail.to_owned()),
                None => (&mut self.exact, name),
            };
            let row = map.entry(key).or_default();
            for scope in scopes {
                row.insert(scope.clone(), index);
            }
        }
    }

    /// Whether a wildcard stands for some host.
    pub(in crate::analysis) fn any(&self, wildcard: &str) -> bool {
        wildcard.starts_with('*') && self.all.matching(wildcard).next().is_some()
    }

    /// What a host that an object of `namespace` names stands for: the exact host, else the
    /// longest wildcard that matches; what every namespace sees comes first.
    pub(in crate::analysis) fn find(&self, host: &str, namespace: &str) -> Option<&Target> {
        let host = full(host, namespace);
        let seen = |row: &BTreeMap<String, usize>| {
            let index = row.get(EVERYWHERE).or_else(|| row.get(namespace))?;
            self.targets.get(*index)
        };
        let tail = host.strip_prefix('*');
        if tail.is_none()
            && let Some(target) = self.exact.get(&host).and_then(seen)
        {
            return Some(target);
        }
        tails(tail.unwrap_or(&host)).find_map(|tail| self.wildcards.get(tail).and_then(seen))
    }
}

/// The ends of a text, longest first, the empty one included.
fn tails(text: &str) -> impl Iterator<Item = &str> {
    let starts = text.char_indices().map(|(start, _)| start);
    starts
        .chain([text.len()])
        .filter_map(|start| text.get(start..))
}

/// Hosts by what they may match: two match when they are equal, or when one begins with a star
/// and the other ends in what follows it.
#[derive(Debug, Default)]
pub(in crate::analysis) struct Matcher {
    exact: HashMap<String, BTreeSet<usize>>,
    wildcards: HashMap<String, BTreeSet<usize>>,
    /// All of them reversed and without star, so that equal endings are adjacent.
    backwards: BTreeMap<Vec<u8>, BTreeSet<usize>>,
}

impl Matcher {
    pub(in crate::analysis) fn add(&mut self, host: &str, id: usize) {
        let tail = host.strip_prefix('*');
        let text = tail.unwrap_or(host);
        let map = if tail.is_some() {
            &mut self.wildcards
        } else {
            &mut self.exact
        };
        map.entry(text.to_owned()).or_default().insert(id);
        let backwards = text.bytes().rev().collect();
        self.backwards.entry(backwards).or_default().insert(id);
    }

    /// Ids of the hosts that match `host`, perhaps with duplicates.
    pub(in crate::analysis) fn matching(&self, host: &str) -> impl Iterator<Item = usize> {
        let tail = host.strip_prefix('*');
        let text = tail.unwrap_or(host);
        let exact = match tail {
            None => self.exact.get(text),
            Some(_) => None,
        };
        let around = tails(text).filter_map(|tail| self.wildcards.get(tail));
        let prefix: Option<Vec<u8>> = tail.map(|tail| tail.bytes().rev().collect());
        let start = match &prefix {
            Some(prefix) => Bound::Included(prefix.clone()),
            None => Bound::Excluded(vec![u8::MAX]),
        };
        let below = self
            .backwards
            .range((start, Bound::Unbounded))
            .take_while(move |(text, _)| {
                prefix
                    .as_ref()
                    .is_some_and(|prefix| text.starts_with(prefix))
            })
            .map(|(_, ids)| ids);
        exact
            .into_iter()
            .chain(around)
            .chain(below)
            .flatten()
            .copied()
            .collect::<Vec<_>>()
            .into_iter()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hosts_match_as_their_stars_say() {
        let hosts = ["a.com", "*.com", "*", "*.a.com", "b.org", "*-x.org"];
        let mut matcher = Matcher::default();
        for (id, host) in hosts.iter().enumerate() {
            matcher.add(host, id);
        }
        let matching = |host: &str| -> Vec<&str> {
            let ids: BTreeSet<usize> = matcher.matching(host).collect();
            ids.into_iter().map(|id| hosts[id]).collect()
        };
        assert_eq!(matching("a.com"), ["a.com", "*.com", "*"]);
        assert_eq!(matching("x.a.com"), ["*.com", "*", "*.a.com"]);
        assert_eq!(matching("*.com"), ["a.com", "*.com", "*", "*.a.com"]);
        assert_eq!(matching("a-x.org"), ["*", "*-x.org"]);
        assert_eq!(matching("*"), hosts);
    }

    #[test]
    fn short_names_are_of_the_own_namespace() {
        assert_eq!(full("a", "ns"), "a.ns.svc.cluster.local");
        assert_eq!(full("a.b", "ns"), "a.b");
        assert_eq!(full("*", "ns"), "*");
        assert_eq!(scopes([".", "b"], "a"), ["a".into(), "b".into()].into());
        assert_eq!(scopes([], "a"), ["*".into()].into());
    }
}
