//! Injection webhooks that inject twice, or call a service that does not exist.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::catalogue::INVALID_WEBHOOK;
use super::super::kubernetes::Webhook;
use super::super::message::names;
use super::super::origin::Origin;
use super::super::report::Report;
use super::super::resources::Resources;
use super::super::selection::Labels;
use istio_api::well_known::labels::{INJECT, INJECTION, REVISION};

/// More revisions than this are not combined.
const MAX_REVISIONS: usize = 32;

struct Named<'a> {
    configuration: &'a str,
    origin: &'a Arc<Origin>,
    index: usize,
    webhook: &'a Webhook,
}

impl Named<'_> {
    fn name(&self) -> String {
        format!("{}/{}", self.configuration, self.webhook.name)
    }
}

fn revisions(webhook: &Webhook) -> impl Iterator<Item = &str> {
    let of_objects = webhook.objects.wanted(REVISION);
    webhook.namespaces.wanted(REVISION).chain(of_objects)
}

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    let mut all: Vec<Named<'_>> = Vec::new();
    let mut known: BTreeSet<&str> = BTreeSet::new();
    for configuration in &resources.webhooks {
        let webhooks = &configuration.spec;
        let is_istio = webhooks.iter().any(|webhook| {
            webhook.name.ends_with("istio.io") || revisions(webhook).next().is_some()
        });
        if !is_istio {
            continue;
        }
        for (index, webhook) in webhooks.iter().enumerate() {
            known.extend(revisions(webhook));
            all.push(Named {
                configuration: configuration.name(),
                origin: &configuration.head.origin,
                index,
                webhook,
            });
        }
    }
    overlaps(&all, &known, report);
    for one in &all {
        let Some((namespace, name)) = &one.webhook.service else {
            continue;
        };
        if !resources.services.exists(namespace, name) {
            let text = format!(
                "webhook {} calls service {namespace}/{name}, which does not exist",
                one.name()
            );
            let field = format!("webhooks[{}].clientConfig.service", one.index);
            report.add(&INVALID_WEBHOOK, one.origin, field, [text]);
        }
    }
}

/// Labels that make a difference: injection on, off or unset, and each revision or none.
fn combinations(key: &str, values: [&str; 2], revisions: &BTreeSet<&str>) -> Vec<Labels> {
    let mut all = Vec::new();
    for value in [None, Some(values[0]), Some(values[1])] {
        let revisions = revisions.iter().copied().take(MAX_REVISIONS).map(Some);
        for revision in [None].into_iter().chain(revisions) {
            let pairs = [(key, value), (REVISION, revision)];
            let pairs = pairs.into_iter();
            let labels = pairs.filter_map(|(key, value)| Some((key.to_owned(), value?.to_owned())));
            all.push(labels.collect());
        }
    }
    all
}

fn overlaps(all: &[Named<'_>], revisions: &BTreeSet<&str>, report: &mut Report) {
    let namespaces = combinations(INJECTION, ["enabled", "disabled"], revisions);
    let objects = combinations(INJECT, ["true", "false"], revisions);
    let mut others: BTreeMap<usize, BTreeSet<String>> = BTreeMap::new();
    for namespace in &namespaces {
        let near: Vec<usize> = (0..all.len())
            .filter(|index| {
                all.get(*index)
                    .is_some_and(|one| one.webhook.namespaces.matches(namespace))
            })
            .collect();
        if near.len() < 2 {
            continue;
        }
        for object in &objects {
            let both: Vec<(usize, String)> = near
                .iter()
                .filter_map(|index| Some((*index, all.get(*index)?)))
                .filter(|(_, one)| one.webhook.objects.matches(object))
                .map(|(index, one)| (index, one.name()))
                .collect();
            for (index, _) in &both {
                let rest = both.iter().filter(|(other, _)| other != index);
                let rest: Vec<String> = rest.map(|(_, name)| name.clone()).collect();
                if !rest.is_empty() {
                    others.entry(*index).or_default().extend(rest);
                }
            }
        }
    }
    for (index, others) in others {
        let Some(one) = all.get(index) else {
            continue;
        };
        let text = format!(
            "webhook {} is called for the same pods as {}, which injects twice",
            one.name(),
            names(others)
        );
        let field = format!("webhooks[{}].name", one.index);
        report.add(&INVALID_WEBHOOK, one.origin, field, [text]);
    }
}
