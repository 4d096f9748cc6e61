//! DestinationRules: merged per namespace and host, and looked up for a client and a service.

use crate::hashed::{Hashed, Spec};
use std::{collections::BTreeSet, sync::Arc};

use imbl::{OrdMap, OrdSet};
use istio_api::networking::v1alpha3 as api;

use crate::{
    config::{Config, ConfigRef, Labels, Visibility, selects},
    host::Host,
    key::ObjectKey,
    lookup::{Lookup, failover_labels},
    mesh::Mesh,
    service::Service,
};

/// One DestinationRule with its host resolved.
#[derive(Clone, Debug)]
pub struct DestinationRule {
    /// The object, with its hosts written in full.
    pub config: Config<api::DestinationRule>,
    /// The host, written in full.
    pub host: Host,
    /// Namespaces that may see it (`exportTo`).
    pub export_to: Visibility,
    /// Labels of the clients that it applies to; empty = all clients that see it.
    pub selector: Labels,
}

impl DestinationRule {
    /// Resolves the names in `config` relative to its own namespace.
    pub fn new(config: Config<api::DestinationRule>, mesh: &Mesh) -> Self {
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
            // A rule for selected workloads is never visible outside its namespace.
            Visibility::Namespaces(vec![namespace.clone()])
        };
        Self {
            host: Host::resolve(&config.spec.host, &namespace, &mesh.domain),
            export_to,
            selector,
            config,
        }
    }

    /// The properties of clients that the rule depends on.
    pub(crate) fn lookup(&self) -> Lookup {
        let spec = &self.config.spec;
        let subsets = spec.subsets.iter().map(|subset| &subset.traffic_policy);
        let policies = || subsets.clone().chain([&spec.traffic_policy]).flatten();
        let balancers = policies().flat_map(|policy| {
            let ports = policy.port_level_settings.iter();
            let ports = ports.map(|port| &port.load_balancer);
            ports.chain([&policy.load_balancer]).flatten()
        });
        let settings: Vec<&api::LocalityLoadBalancerSetting> = balancers
            .filter_map(|balancer| balancer.locality_lb_setting.as_ref())
            .collect();
        // Other localities take over only if Envoy detects unhealthy endpoints.
        let fails_over = policies().any(|policy| {
            let mut ports = policy.port_level_settings.iter();
            policy.outlier_detection.is_some() || ports.any(|port| port.outlier_detection.is_some())
        });
        let failover = settings.iter().copied().flat_map(failover_labels);
        Lookup {
            clients: self.selector.keys().cloned().chain(failover).collect(),
            workloads: self.selector.keys().cloned().collect(),
            locality: fails_over || settings.iter().any(|one| !one.distribute.is_empty()),
            ..Lookup::default()
        }
    }
}

/// The rule for one service and client: all rules of one host merged, oldest first.
#[derive(Clone, Debug, Hash)]
pub struct Rule {
    /// The host, written in full.
    pub host: Host,
    /// Subsets merged by name; the traffic policy of the oldest rule that has one.
    pub spec: Spec<api::DestinationRule>,
    /// The DestinationRules that it was merged from.
    pub sources: Arc<[ConfigRef]>,
    /// Names of subsets that an older rule already defines.
    pub duplicate_subsets: Vec<String>,
    export_to: Visibility,
    selector: Labels,
}

impl Rule {
    /// The subset of this name.
    pub fn subset(&self, name: &str) -> Option<&api::Subset> {
        self.spec.subsets.iter().find(|subset| subset.name == name)
    }

    fn merge(rules: &[&Arc<DestinationRule>]) -> Option<Self> {
        let first = rules.first()?;
        let mut spec = first.config.spec.clone();
        let mut duplicate_subsets = Vec::new();
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
            duplicate_subsets,
            export_to: first.export_to.clone(),
            selector: first.selector.clone(),
        })
    }
}

/// The merged rules of one namespace, by host.
#[derive(Clone, Debug, Default)]
struct NamespaceRules {
    rules: OrdMap<ObjectKey, Arc<DestinationRule>>,
    /// Keys of the rules by their hosts.
    by_host: OrdMap<Host, OrdSet<ObjectKey>>,
    /// Rules for selected workloads before those for all, then oldest first.
    merged: OrdMap<Host, Arc<[Arc<Hashed<Rule>>]>>,
    /// Hosts of `merged` that start with `*`.
    wildcards: OrdSet<Host>,
}

impl NamespaceRules {
    /// Sets or removes a rule; returns the previous one.
    fn replace(
        &mut self,
        key: &ObjectKey,
        new: Option<Arc<DestinationRule>>,
    ) -> Option<Arc<DestinationRule>> {
        let old = self.rules.remove(key);
        if let Some(old) = &old
            && let Some(keys) = self.by_host.get_mut(&old.host)
        {
            keys.remove(key);
            if keys.is_empty() {
                self.by_host.remove(&old.host);
            }
        }
        if let Some(new) = new {
            let keys = self.by_host.entry(new.host.clone()).or_default();
            keys.insert(key.clone());
            self.rules.insert(key.clone(), new);
        }
        old
    }

    fn remerge(&mut self, host: &Host) {
        let keys = self.by_host.get(host).into_iter().flatten();
        let mut rules: Vec<&Arc<DestinationRule>> =
            keys.filter_map(|key| self.rules.get(key)).collect();
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
        let mut merged: Vec<Arc<Hashed<Rule>>> = groups
            .iter()
            .filter_map(|group| Rule::merge(group))
            .map(|rule| Arc::new(Hashed::new(rule)))
            .collect();
        merged.sort_by_key(|rule| rule.selector.is_empty());
        if merged.is_empty() {
            self.merged.remove(host);
            self.wildcards.remove(host);
        } else {
            self.merged.insert(host.clone(), merged.into());
            if host.is_wildcard() {
                self.wildcards.insert(host.clone());
            }
        }
    }

    /// The rule of the most specific host that covers `service` and that `accept` allows.
    fn find(&self, service: &Host, accept: impl Fn(&Rule) -> bool) -> Option<&Arc<Hashed<Rule>>> {
        let accepted = |host: &Host| {
            self.merged
                .get(host)
                .and_then(|rules| rules.iter().find(|rule| accept(rule)))
        };
        let exact = accepted(service);
        if exact.is_some() || self.wildcards.is_empty() {
            return exact;
        }
        service.find_wildcard(|wildcard| {
            let is_ruled = self.wildcards.contains(wildcard);
            is_ruled.then(|| accepted(wildcard)).flatten()
        })
    }
}

/// All DestinationRules by namespace.
#[derive(Clone, Debug, Default)]
pub struct DestinationRules {
    namespaces: OrdMap<Arc<str>, NamespaceRules>,
}

impl DestinationRules {
    /// Sets or removes a rule; returns the previous one, and the hosts whose rules may differ now.
    pub fn replace(
        &mut self,
        key: &ObjectKey,
        new: Option<Arc<DestinationRule>>,
    ) -> (Option<Arc<DestinationRule>>, BTreeSet<Host>) {
        let namespace = self.namespaces.entry(key.namespace.clone()).or_default();
        let mut hosts: BTreeSet<Host> = new.iter().map(|new| new.host.clone()).collect();
        let old = namespace.replace(key, new);
        hosts.extend(old.iter().map(|old| old.host.clone()));
        for host in &hosts {
            namespace.remerge(host);
        }
        if namespace.rules.is_empty() {
            self.namespaces.remove(&key.namespace);
        }
        (old, hosts)
    }

    /// The rule for `service` that applies to a client of `namespace` with `labels`: from the
    /// client's own namespace, then that of the service, then the root namespace; the first
    /// namespace with any host that covers the service decides.
    pub fn for_service(
        &self,
        namespace: &str,
        labels: &Labels,
        service: &Service,
        root: &str,
    ) -> Option<&Arc<Hashed<Rule>>> {
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
}
