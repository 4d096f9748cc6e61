//! Sidecars and Telemetries: at most one of a kind may apply to a workload.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::super::catalogue::{
    CONFLICTING_SIDECAR_WORKLOAD_SELECTORS, CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS, Code,
    INVALID_TELEMETRY_PROVIDER, MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS,
    MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS, REFERENCED_RESOURCE_NOT_FOUND,
};
use super::super::message::names;
use super::super::origin::Origin;
use super::super::report::Report;
use super::super::resources::Resources;
use super::super::selection::{Labels, text};

/// An object and the labels that it selects by; `None` if it is for a whole namespace.
struct Selecting<'a> {
    origin: &'a Arc<Origin>,
    selector: Option<&'a Labels>,
}

fn sidecars(resources: &Resources) -> Vec<Selecting<'_>> {
    let all = resources.sidecars.iter();
    all.map(|sidecar| Selecting {
        origin: &sidecar.head.origin,
        selector: sidecar
            .spec
            .workload_selector
            .as_ref()
            .map(|selector| &selector.labels)
            .filter(|labels| !labels.is_empty()),
    })
    .collect()
}

fn telemetries(resources: &Resources) -> Vec<Selecting<'_>> {
    let all = resources.telemetries.iter();
    // One that is attached by name conflicts with no other.
    all.filter(|one| one.spec.target_ref.is_none() && one.spec.target_refs.is_empty())
        .map(|telemetry| Selecting {
            origin: &telemetry.head.origin,
            selector: telemetry
                .spec
                .selector
                .as_ref()
                .map(|selector| &selector.match_labels)
                .filter(|labels| !labels.is_empty()),
        })
        .collect()
}

pub(super) fn of_sidecars(resources: &Resources, report: &mut Report) {
    let all = sidecars(resources);
    let field = "spec.workloadSelector.labels";
    let code = &CONFLICTING_SIDECAR_WORKLOAD_SELECTORS;
    conflicts(resources, &all, field, code, report);
    let code = &MULTIPLE_SIDECARS_WITHOUT_WORKLOAD_SELECTORS;
    several_defaults(&all, code, report);
}

pub(super) fn of_telemetries(resources: &Resources, report: &mut Report) {
    let field = "spec.selector.matchLabels";
    let code = &CONFLICTING_TELEMETRY_WORKLOAD_SELECTORS;
    conflicts(resources, &telemetries(resources), field, code, report);
}

pub(super) fn of_default_telemetries(resources: &Resources, report: &mut Report) {
    let code = &MULTIPLE_TELEMETRIES_WITHOUT_WORKLOAD_SELECTORS;
    several_defaults(&telemetries(resources), code, report);
}

/// Reports selectors without Pods, and Pods that several objects select: of all Pods that the
/// same objects select, the first is named.
fn conflicts(
    resources: &Resources,
    all: &[Selecting<'_>],
    field: &str,
    code: &'static Code,
    report: &mut Report,
) {
    let mut by_pod: BTreeMap<(&str, &str), Vec<&Arc<Origin>>> = BTreeMap::new();
    for one in all {
        let Some(selector) = one.selector else {
            continue;
        };
        let mut finds = false;
        let namespace = Some(&*one.origin.namespace);
        for workload in resources.workloads.selected(namespace, selector) {
            finds = true;
            let pod = (workload.pod.namespace(), workload.pod.name());
            by_pod.entry(pod).or_default().push(one.origin);
        }
        if !finds {
            let parameters = ["selector".to_owned(), text(selector)];
            report.add(
                &REFERENCED_RESOURCE_NOT_FOUND,
                one.origin,
                field,
                parameters,
            );
        }
    }
    let mut told = BTreeSet::new();
    for ((namespace, pod), origins) in by_pod {
        let all: Vec<&str> = origins.iter().map(|origin| &*origin.name).collect();
        if all.len() < 2 || !told.insert((namespace, all.clone())) {
            continue;
        }
        for origin in origins {
            let parameters = [names(&all), namespace.to_owned(), pod.to_owned()];
            report.add(code, origin, field, parameters);
        }
    }
}

fn several_defaults(all: &[Selecting<'_>], code: &'static Code, report: &mut Report) {
    let mut by_namespace: BTreeMap<&str, Vec<&Arc<Origin>>> = BTreeMap::new();
    for one in all.iter().filter(|one| one.selector.is_none()) {
        let namespace = &*one.origin.namespace;
        by_namespace.entry(namespace).or_default().push(one.origin);
    }
    for (namespace, origins) in by_namespace {
        if origins.len() < 2 {
            continue;
        }
        let all = names(origins.iter().map(|origin| &origin.name));
        for origin in origins {
            let parameters = [all.clone(), namespace.to_owned()];
            report.add(code, origin, "metadata.name", parameters);
        }
    }
}

/// Reports access logs that no provider writes.
pub(super) fn telemetry_providers(resources: &Resources, report: &mut Report) {
    let defaults = resources.mesh.config.spec.default_providers.as_ref();
    if defaults.is_some_and(|defaults| !defaults.access_logging.is_empty()) {
        return;
    }
    for telemetry in &resources.telemetries {
        for (i, logging) in telemetry.spec.access_logging.iter().enumerate() {
            let is_disabled = logging.disabled.unwrap_or_default();
            if !is_disabled && logging.providers.is_empty() {
                report.add(
                    &INVALID_TELEMETRY_PROVIDER,
                    &telemetry.head.origin,
                    format!("spec.accessLogging[{i}]"),
                    [
                        telemetry.name().to_owned(),
                        telemetry.namespace().to_owned(),
                    ],
                );
            }
        }
    }
}
