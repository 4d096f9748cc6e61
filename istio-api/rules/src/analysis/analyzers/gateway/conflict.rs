//! Gateways that open the same port for the same host on the same workloads.

use std::collections::{BTreeMap, BTreeSet};

use super::super::super::catalogue::CONFLICTING_GATEWAYS;
use super::super::super::message::names;
use super::super::super::report::Report;
use super::super::super::resources::Resources;
use super::super::super::selection::{Labels, text};
use super::no_workload;

/// Port, address and host of a server.
type Place<'a> = (u32, &'a str, &'a str);

pub(in super::super) fn analyze(resources: &Resources, report: &mut Report) {
    let index = Index::new(resources);
    let mut has_pods: BTreeMap<&Labels, bool> = BTreeMap::new();
    for (index_of, gateway) in resources.gateways.iter().enumerate() {
        let selector = &gateway.spec.selector;
        let has_pod = has_pods.entry(selector).or_insert_with(|| {
            let mut found = resources.workloads.selected(None, selector);
            found.next().is_some()
        });
        if !*has_pod {
            no_workload(gateway, report);
        }
        for (i, server) in gateway.spec.servers.iter().enumerate() {
            let Some(port) = &server.port else {
                continue;
            };
            let mut others = BTreeSet::new();
            let mut hosts = BTreeSet::new();
            for host in &server.hosts {
                let place = (port.number, server.bind.as_str(), host.as_str());
                let found = index.near(resources, &place, selector);
                let mut found = found
                    .into_iter()
                    .filter(|other| *other != index_of)
                    .peekable();
                if found.peek().is_some() {
                    hosts.insert(host);
                    others.extend(found);
                }
            }
            if others.is_empty() {
                continue;
            }
            let others = others
                .iter()
                .filter_map(|index| resources.gateways.get(*index));
            report.add(
                &CONFLICTING_GATEWAYS,
                &gateway.head.origin,
                format!("spec.servers[{i}]"),
                [
                    names(others.map(|other| other.full_name())),
                    text(selector),
                    port.number.to_string(),
                    names(hosts),
                ],
            );
        }
    }
}

/// Gateways by what their servers open, and by selector.
struct Index<'a> {
    by_place: BTreeMap<Place<'a>, BTreeMap<String, BTreeSet<usize>>>,
    /// For each run of labels, the selectors that contain it.
    around: BTreeMap<String, BTreeSet<String>>,
    selectors: BTreeMap<String, &'a Labels>,
}

/// Longer selectors are only compared for equality: they have too many runs.
const MAX_LABELS: usize = 16;

impl<'a> Index<'a> {
    fn new(resources: &'a Resources) -> Self {
        let mut index = Self {
            by_place: BTreeMap::new(),
            around: BTreeMap::new(),
            selectors: BTreeMap::new(),
        };
        for (i, gateway) in resources.gateways.iter().enumerate() {
            let selector = text(&gateway.spec.selector);
            for server in &gateway.spec.servers {
                let Some(port) = &server.port else {
                    continue;
                };
                for host in &server.hosts {
                    let place = (port.number, server.bind.as_str(), host.as_str());
                    let by_selector = index.by_place.entry(place).or_default();
                    by_selector.entry(selector.clone()).or_default().insert(i);
                }
            }
            index.selectors.insert(selector, &gateway.spec.selector);
        }
        for (selector, labels) in &index.selectors {
            for part in runs(labels) {
                index
                    .around
                    .entry(part)
                    .or_default()
                    .insert(selector.clone());
            }
        }
        index
    }

    /// Gateways with a server at the place, for workloads that `selector` selects as well.
    fn near(&self, resources: &Resources, place: &Place<'_>, selector: &Labels) -> Vec<usize> {
        let Some(by_selector) = self.by_place.get(place) else {
            return Vec::new();
        };
        let own = text(selector);
        let mut found: Vec<usize> = by_selector
            .get(&own)
            .into_iter()
            .flatten()
            .copied()
            .collect();
        let larger = self.around.get(&own).into_iter().flatten().cloned();
        let related: BTreeSet<String> = larger.chain(runs(selector)).collect();
        for other in related.iter().filter(|other| **other != own) {
            let (Some(gateways), Some(labels)) =
                (by_selector.get(other), self.selectors.get(other))
            else {
                continue;
            };
            let mut both = selector.clone();
            both.extend(
                labels
                    .iter()
                    .map(|(key, value)| (key.clone(), value.clone())),
            );
            if resources.workloads.selected(None, &both).next().is_some() {
                found.extend(gateways);
            }
        }
        found
    }
}

/// The text of every run of adjacent labels, the empty one included.
fn runs(labels: &Labels) -> Vec<String> {
    let pairs: Vec<String> = labels
        .iter()
        .map(|(key, value)| format!("{key}={value}"))
        .collect();
    if pairs.len() > MAX_LABELS {
        return vec![pairs.join(",")];
    }
    let mut runs = vec![String::new()];
    for length in 1..=pairs.len() {
        runs.extend(pairs.windows(length).map(|run| run.join(",")));
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn runs_of_labels() {
        let labels = ["a", "b", "c"].map(|key| (key.to_owned(), "1".to_owned()));
        assert_eq!(
            runs(&labels.into()),
            ["", "a=1", "b=1", "c=1", "a=1,b=1", "b=1,c=1", "a=1,b=1,c=1"]
        );
    }
}
