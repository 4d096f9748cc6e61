//! The properties of proxies that the configuration uses, other than the namespace: label keys and
//! locality. Only these divide proxies into classes.
//!
//! Every object contributes a [`Lookup`]; they are counted, so that a change costs the changed
//! object and not an iteration over all objects.

use std::collections::{BTreeMap, BTreeSet};

use istio_api::networking::v1alpha3 as api;

/// The properties that one object uses, or all of them together.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lookup {
    /// Label keys of clients: in workload selectors of DestinationRules, source labels of routes
    /// and failover priorities.
    pub clients: BTreeSet<String>,
    /// Label keys by which Gateways select gateway workloads.
    pub gateways: BTreeSet<String>,
    /// Label keys by which policies and rules select serving workloads.
    pub workloads: BTreeSet<String>,
    /// Whether endpoints are ordered by their locality relative to the client.
    pub locality: bool,
    /// Whether some service uses only endpoints on the client's own node.
    pub node: bool,
}

/// How many objects use each property.
#[derive(Debug, Default)]
pub(crate) struct Lookups {
    clients: Counts,
    gateways: Counts,
    workloads: Counts,
    locality: usize,
    node: usize,
}

type Counts = BTreeMap<String, usize>;

impl Lookups {
    /// Replaces the properties that an object used.
    pub(crate) fn replace(&mut self, old: Option<Lookup>, new: Option<Lookup>) {
        if old == new {
            return;
        }
        if let Some(new) = new {
            add(&mut self.clients, new.clients);
            add(&mut self.gateways, new.gateways);
            add(&mut self.workloads, new.workloads);
            self.locality += usize::from(new.locality);
            self.node += usize::from(new.node);
        }
        if let Some(old) = old {
            remove(&mut self.clients, &old.clients);
            remove(&mut self.gateways, &old.gateways);
            remove(&mut self.workloads, &old.workloads);
            self.locality -= usize::from(old.locality);
            self.node -= usize::from(old.node);
        }
    }

    /// The union of the properties of all objects.
    pub(crate) fn total(&self) -> Lookup {
        let keys = |counts: &Counts| counts.keys().cloned().collect();
        Lookup {
            clients: keys(&self.clients),
            gateways: keys(&self.gateways),
            workloads: keys(&self.workloads),
            locality: self.locality > 0,
            node: self.node > 0,
        }
    }
}

fn add(counts: &mut Counts, keys: BTreeSet<String>) {
    for key in keys {
        *counts.entry(key).or_default() += 1;
    }
}

fn remove(counts: &mut Counts, keys: &BTreeSet<String>) {
    for key in keys {
        if let Some(count) = counts.get_mut(key) {
            *count -= 1;
            if *count == 0 {
                counts.remove(key);
            }
        }
    }
}

/// Keys of the labels in `failoverPriority`, whose entries are `key` or `key=value`.
pub(crate) fn failover_labels(
    setting: &api::LocalityLoadBalancerSetting,
) -> impl Iterator<Item = String> {
    setting.failover_priority.iter().map(|entry| {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        key.to_owned()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lookup(key: &str, locality: bool) -> Lookup {
        Lookup {
            clients: [key.to_owned()].into(),
            locality,
            node: locality,
            ..Lookup::default()
        }
    }

    #[test]
    fn a_key_counts_as_long_as_some_object_names_it() {
        let mut all = Lookups::default();
        all.replace(None, Some(lookup("app", true)));
        all.replace(None, Some(lookup("app", false)));
        assert_eq!(all.total(), lookup("app", true));
        all.replace(Some(lookup("app", true)), None);
        assert_eq!(all.total(), lookup("app", false));
        all.replace(Some(lookup("app", false)), Some(lookup("team", false)));
        assert_eq!(all.total(), lookup("team", false));
        all.replace(Some(lookup("team", false)), None);
        assert_eq!(all.total(), Lookup::default());
    }
}
