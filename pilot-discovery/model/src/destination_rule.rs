//! DestinationRules: merged per namespace and host, and looked up for a client and a service.

use std::{collections::BTreeMap, sync::Arc};

use imbl::OrdMap;
use istio_api::networking::v1alpha3 as api;

use crate::{
    config::{Config, ConfigRef, Labels, Visibility, selects},
    host::{Host, most_specific},
    key::ObjectKey,
    mesh::Mesh,
    service::Service,
};

/// One DestinationRule, its host resolved.
#[derive(Clone, Debug)]
pub struct DestinationRule {
    pub config: Config<api::DestinationRule>,
    pub host: Host,
    pub export_to: Visibility,
    /// Clients that it is for; empty = all of the namespaces that see it.
    pub selector: Labels,
    /// Hash of the spec.
    pub version: u64,
}

impl DestinationRule {
    pub fn new(config: Config<api::DestinationRule>, mesh: &Mesh, version: u64) -> Self {
        let namespace = config.reference.namespace.clone();
        let selector: Labels = config
            .spec
            .workload_selector
            .as_ref()
            .map(|selector| selector.match_labels.clone())
            .unwrap_or_default();
        let export_to = if selector.is_empty() {
            Visibility::parse(
                &config.spec.export_to,
                &namespace,
                &mesh.destination_rule_export_to,
            )
        } else {
            // A rule for chosen workloads never leaves its namespace.
            Visibility::Namespaces(vec![namespace.clone()])
        };
        Self {
            host: Host::resolve(&config.spec.host, &namespace, &mesh.domain),
            export_to,
            selector,
            config,
            version,
        }
    }
}

/// What applies to one service for one client: the rules of one host merged, oldest first.
#[derive(Clone, Debug)]
pub struct Rule {
    pub host: Host,
    /// Subsets united by name; the traffic policy of the oldest rule that has one.
    pub spec: api::DestinationRule,
    pub sources: Arc<[ConfigRef]>,
    /// Hash over the versions of its sources, in order.
    pub version: u64,
    /// Names of subsets that an older rule had already.
    pub duplicate_subsets: Vec<String>,
    export_to: Visibility,
    selector: Labels,
}

impl Rule {
    pub fn subset(&self, name: &str) -> Option<&api::Subset> {
        self.spec.subsets.iter().find(|subset| subset.name == name)
    }

    fn merge(rules: &[&Arc<DestinationRule>]) -> Option<Self> {
        let first = rules.first()?;
        let mut spec = first.config.spec.clone();
        let mut duplicate_subsets = Vec::new();
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for rule in rules {
            hash.update(&rule.version.to_le_bytes());
        }
        for rule in rules.iter().skip(1) {
            if spec.traffic_policy.is_none() {
                spec.traffic_policy
                    .clone_from(&rule.config.spec.traffic_policy);
            }
            for subset in &rule.config.spec.subsets {
                if spec.subsets.iter().any(|known| known.name == subset.name) {
                    duplicate_subsets.push(subset.name.clone());
                } else {
                    spec.subsets.push(subset.clone());
                }
            }
        }
        Some(Self {
            host: first.host.clone(),
            spec,
            sources: rules
                .iter()
                .map(|rule| rule.config.reference.clone())
                .collect(),
            version: hash.digest(),
            duplicate_subsets,
            export_to: first.export_to.clone(),
            selector: first.selector.clone(),
        })
    }
}

/// The merged rules of one namespace, by host.
#[derive(Clone, Debug, Default)]
struct NamespaceRules {
    rules: BTreeMap<ObjectKey, Arc<DestinationRule>>,
    /// Rules for chosen workloads before those for all, then oldest first.
    merged: BTreeMap<Host, Vec<Arc<Rule>>>,
}

impl NamespaceRules {
    fn remerge(&mut self, host: &Host) {
        let mut rules: Vec<&Arc<DestinationRule>> = self
            .rules
            .values()
            .filter(|rule| rule.host == *host)
            .collect();
        rules.sort_by(|a, b| a.config.by_age(&b.config));
        // Only rules for the same clients are merged.
        let mut groups: Vec<Vec<&Arc<DestinationRule>>> = Vec::new();
        for rule in rules {
            let group = groups.iter_mut().find(|group| {
                group.first().is_some_and(|first| {
                    first.export_to == rule.export_to && first.selector == rule.selector
                })
            });
            match group {
                Some(group) => group.push(rule),
                None => groups.push(vec![rule]),
            }
        }
        let mut merged: Vec<Arc<Rule>> = groups
            .iter()
            .filter_map(|group| Rule::merge(group))
            .map(Arc::new)
            .collect();
        merged.sort_by_key(|rule| rule.selector.is_empty());
        if merged.is_empty() {
            self.merged.remove(host);
        } else {
            self.merged.insert(host.clone(), merged);
        }
    }

    /// The rule of the most specific host that covers `service` and that `accept` lets through.
    fn find(&self, service: &Host, accept: impl Fn(&Rule) -> bool) -> Option<&Arc<Rule>> {
        let accepted = |host: &Host| {
            self.merged
                .get(host)
                .and_then(|rules| rules.iter().find(|rule| accept(rule)))
        };
        if let Some(rule) = accepted(service) {
            return Some(rule);
        }
        let wildcards = self
            .merged
            .range(Host::new("*")..)
            .map(|(host, _)| host)
            .take_while(|host| host.is_wildcard())
            .filter(|host| accepted(host).is_some());
        most_specific(service, wildcards).and_then(accepted)
    }
}

/// All DestinationRules by namespace.
#[derive(Clone, Debug, Default)]
pub struct DestinationRules {
    namespaces: OrdMap<Arc<str>, Arc<NamespaceRules>>,
}

impl DestinationRules {
    /// Puts `new` in the place of what `key` held; gives the hosts whose rules may differ now.
    pub fn replace(&mut self, key: &ObjectKey, new: Option<Arc<DestinationRule>>) -> Vec<Host> {
        let mut namespace = self
            .namespaces
            .get(&key.namespace)
            .map_or_else(NamespaceRules::default, |rules| (**rules).clone());
        let mut hosts: Vec<Host> = Vec::new();
        if let Some(old) = namespace.rules.remove(key) {
            hosts.push(old.host.clone());
        }
        if let Some(new) = new {
            hosts.push(new.host.clone());
            namespace.rules.insert(key.clone(), new);
        }
        hosts.sort();
        hosts.dedup();
        for host in &hosts {
            namespace.remerge(host);
        }
        if namespace.rules.is_empty() {
            self.namespaces.remove(&key.namespace);
        } else {
            self.namespaces
                .insert(key.namespace.clone(), Arc::new(namespace));
        }
        hosts
    }

    /// The rule for `service` as a client of `namespace` with `labels` sees it: the client's own
    /// namespace, then that of the service, then the root namespace; the first that has any host
    /// covering the service decides.
    pub fn for_service(
        &self,
        namespace: &str,
        labels: &Labels,
        service: &Service,
        root: &str,
    ) -> Option<&Arc<Rule>> {
        let visible = |rule: &Rule| {
            rule.export_to.includes(namespace)
                && (rule.selector.is_empty() || selects(&rule.selector, labels))
        };
        let host = service.host();
        let own = self.namespaces.get(namespace).and_then(|rules| {
            if namespace == root {
                rules.find(host, |rule| {
                    visible(rule) && rule.export_to.is_private(root)
                })
            } else {
                rules.find(host, visible)
            }
        });
        let exported = |owner: &str| {
            self.namespaces.get(owner).and_then(|rules| {
                rules.find(host, |rule| rule.selector.is_empty() && visible(rule))
            })
        };
        own.or_else(|| exported(service.namespace()))
            .or_else(|| exported(root))
    }

    /// Label keys that rules choose clients by.
    pub fn selector_keys(&self) -> impl Iterator<Item = &String> {
        self.namespaces
            .values()
            .flat_map(|namespace| namespace.rules.values())
            .flat_map(|rule| rule.selector.keys())
    }

    /// Label keys by which rules order endpoints relative to the client.
    pub fn failover_keys(&self) -> impl Iterator<Item = &str> {
        self.namespaces
            .values()
            .flat_map(|namespace| namespace.rules.values())
            .flat_map(|rule| {
                let spec = &rule.config.spec;
                let subsets = spec.subsets.iter().map(|subset| &subset.traffic_policy);
                subsets.chain([&spec.traffic_policy]).flatten()
            })
            .flat_map(|policy| {
                let ports = policy
                    .port_level_settings
                    .iter()
                    .map(|port| &port.load_balancer);
                ports.chain([&policy.load_balancer]).flatten()
            })
            .filter_map(|balancer| balancer.locality_lb_setting.as_ref())
            .flat_map(failover_labels)
    }
}

/// Keys of the labels in `failoverPriority`, whose entries are `key` or `key=value`.
pub fn failover_labels(setting: &api::LocalityLoadBalancerSetting) -> impl Iterator<Item = &str> {
    setting
        .failover_priority
        .iter()
        .map(|entry| entry.split_once('=').map_or(entry.as_str(), |(key, _)| key))
}
