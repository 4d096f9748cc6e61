//! AuthorizationPolicies that select no workload, or name namespaces that do not exist.

use std::collections::BTreeSet;
use std::ops::Bound;

use super::super::catalogue::{NO_MATCHING_WORKLOADS_FOUND, REFERENCED_RESOURCE_NOT_FOUND};
use super::super::report::Report;
use super::super::resources::{Resource, Resources};
use super::super::selection::{Labels, text};
use istio_api::security::v1beta1::AuthorizationPolicy;

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    let names = Names::new(resources.namespaces.keys());
    for policy in &resources.authorization_policies {
        workloads(resources, policy, report);
        namespaces(&names, policy, report);
    }
}

fn workloads(resources: &Resources, policy: &Resource<AuthorizationPolicy>, report: &mut Report) {
    let spec = &policy.spec;
    if spec.target_ref.is_some() || !spec.target_refs.is_empty() {
        return;
    }
    let none = Labels::new();
    let selector = spec
        .selector
        .as_ref()
        .map_or(&none, |selector| &selector.match_labels);
    let is_root = policy.namespace() == resources.mesh.root_namespace;
    let finds = if selector.is_empty() {
        is_root || resources.workloads.of(policy.namespace()).next().is_some()
    } else {
        let namespace = (!is_root).then(|| policy.namespace());
        resources
            .workloads
            .selected(namespace, selector)
            .any(|workload| workload.is_in_mesh)
    };
    if !finds {
        let origin = &policy.head.origin;
        let field = if selector.is_empty() {
            "metadata.name"
        } else {
            "spec.selector.matchLabels"
        };
        let shown = if selector.is_empty() {
            format!("there is no pod in namespace {}", policy.namespace())
        } else {
            text(selector)
        };
        report.add(&NO_MATCHING_WORKLOADS_FOUND, origin, field, [shown]);
    }
}

fn namespaces(names: &Names, policy: &Resource<AuthorizationPolicy>, report: &mut Report) {
    for (i, rule) in policy.spec.rules.iter().enumerate() {
        for (j, from) in rule.from.iter().enumerate() {
            let Some(source) = &from.source else {
                continue;
            };
            let lists = [
                ("namespaces", &source.namespaces),
                ("notNamespaces", &source.not_namespaces),
            ];
            for (member, list) in lists {
                for (k, pattern) in list.iter().enumerate() {
                    if !names.any(pattern) {
                        report.add(
                            &REFERENCED_RESOURCE_NOT_FOUND,
                            &policy.head.origin,
                            format!("spec.rules[{i}].from[{j}].source.{member}[{k}]"),
                            ["namespace".to_owned(), pattern.clone()],
                        );
                    }
                }
            }
        }
    }
}

/// Names of namespaces, searchable by prefix and suffix.
struct Names {
    forwards: BTreeSet<String>,
    backwards: BTreeSet<String>,
}

impl Names {
    fn new<'a>(names: impl Iterator<Item = &'a String>) -> Self {
        let forwards: BTreeSet<String> = names.cloned().collect();
        let backwards = forwards.iter().map(|name| reversed(name)).collect();
        Self {
            forwards,
            backwards,
        }
    }

    fn any(&self, pattern: &str) -> bool {
        if let Some(start) = pattern.strip_suffix('*') {
            begins(&self.forwards, start)
        } else if let Some(end) = pattern.strip_prefix('*') {
            begins(&self.backwards, &reversed(end))
        } else {
            self.forwards.contains(pattern)
        }
    }
}

fn reversed(text: &str) -> String {
    text.chars().rev().collect()
}

fn begins(names: &BTreeSet<String>, start: &str) -> bool {
    names
        .range::<str, _>((Bound::Included(start), Bound::Unbounded))
        .next()
        .is_some_and(|name| name.starts_with(start))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_found_by_beginning_and_end() {
        let all = ["shop".to_owned(), "shop-test".to_owned()];
        let names = Names::new(all.iter());
        for found in ["shop", "sh*", "*-test", "*", "shop*"] {
            assert!(names.any(found), "{found}");
        }
        for missing in ["sho", "t*", "*-tes", "x"] {
            assert!(!names.any(missing), "{missing}");
        }
        assert!(!Names::new([].iter()).any("*"));
    }
}
