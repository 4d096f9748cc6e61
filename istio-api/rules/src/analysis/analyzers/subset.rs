//! Subsets that routes name but no DestinationRule defines, and subsets without members.

use std::collections::{BTreeMap, BTreeSet};

use super::super::catalogue::{
    DESTINATION_RULE_SUBSET_NOT_SELECT_PODS, REFERENCED_RESOURCE_NOT_FOUND,
    UNKNOWN_DESTINATION_RULE_HOST,
};
use super::super::report::Report;
use super::super::resources::Resources;
use super::super::resources::hosts::{Target, full};
use super::super::selection::{Labels, selects};
use super::destination::uses;

pub(super) fn of_routes(resources: &Resources, report: &mut Report) {
    let mut defined: BTreeSet<(String, &str)> = BTreeSet::new();
    for rule in &resources.destination_rules {
        let host = full(&rule.spec.host, rule.namespace());
        let subsets = rule.spec.subsets.iter();
        defined.extend(subsets.map(|subset| (host.clone(), subset.name.as_str())));
    }
    for service in &resources.virtual_services {
        for one in uses(&service.spec) {
            let (host, subset) = (&one.destination.host, &one.destination.subset);
            let key = (full(host, service.namespace()), subset.as_str());
            if subset.is_empty() || defined.contains(&key) {
                continue;
            }
            let kind = if one.is_mirror {
                "mirror+subset in destinationrule"
            } else {
                "host+subset in destinationrule"
            };
            report.add(
                &REFERENCED_RESOURCE_NOT_FOUND,
                &service.head.origin,
                format!("{}.subset", one.field),
                [kind.to_owned(), format!("{host}+{subset}")],
            );
        }
    }
}

pub(super) fn of_rules(resources: &Resources, report: &mut Report) {
    let mut entries: BTreeMap<&str, Vec<&Labels>> = BTreeMap::new();
    for entry in &resources.workload_entries {
        let of_namespace = entries.entry(entry.namespace()).or_default();
        of_namespace.push(&entry.spec.labels);
    }
    let any = Target::default();
    for rule in &resources.destination_rules {
        let origin = &rule.head.origin;
        let host = &rule.spec.host;
        let target = match resources.hosts.find(host, rule.namespace()) {
            Some(target) => target,
            // Such as `*.local`: any Pod may be behind one of its hosts.
            None if resources.hosts.any(host) => &any,
            None => {
                let parameters = [host.clone()];
                report.add(
                    &UNKNOWN_DESTINATION_RULE_HOST,
                    origin,
                    "spec.host",
                    parameters,
                );
                continue;
            }
        };
        for (i, subset) in rule.spec.subsets.iter().enumerate() {
            // Without labels a subset has all endpoints.
            if !subset.labels.is_empty()
                && !has_members(resources, &entries, target, &subset.labels)
            {
                report.add(
                    &DESTINATION_RULE_SUBSET_NOT_SELECT_PODS,
                    origin,
                    format!("spec.subsets[{i}]"),
                    [subset.name.clone()],
                );
            }
        }
    }
}

/// Whether a Pod, an endpoint of the service itself or a WorkloadEntry is in the subset.
fn has_members(
    resources: &Resources,
    entries: &BTreeMap<&str, Vec<&Labels>>,
    target: &Target,
    subset: &Labels,
) -> bool {
    if target
        .endpoints
        .iter()
        .any(|labels| selects(subset, labels))
    {
        return true;
    }
    let mut wanted = target.selector.clone();
    for (key, value) in subset {
        // No object has two values for one label.
        if wanted
            .insert(key.clone(), value.clone())
            .is_some_and(|it| it != *value)
        {
            return false;
        }
    }
    let mut entries = entries.get(target.namespace.as_str()).into_iter().flatten();
    resources.workloads.located(&wanted).next().is_some()
        || (!target.selector.is_empty() && entries.any(|labels| selects(&wanted, labels)))
}
