//! Ports of Gateways that no Service leads to.

use std::collections::{BTreeSet, HashMap};

use super::super::super::catalogue::GATEWAY_PORT_NOT_DEFINED_ON_SERVICE;
use super::super::super::report::Report;
use super::super::super::resources::Resources;
use super::super::super::selection::{Labels, text};
use super::no_workload;

pub(in super::super) fn analyze(resources: &Resources, report: &mut Report) {
    // Most Gateways of a mesh are for the same few workloads.
    let mut known: HashMap<&Labels, Option<BTreeSet<u32>>> = HashMap::new();
    for gateway in &resources.gateways {
        let selector = &gateway.spec.selector;
        let exposed = known
            .entry(selector)
            .or_insert_with(|| exposed(resources, selector));
        let Some(exposed) = exposed else {
            no_workload(gateway, report);
            continue;
        };
        for (i, server) in gateway.spec.servers.iter().enumerate() {
            let Some(port) = &server.port else {
                continue;
            };
            if !exposed.contains(&port.number) {
                report.add(
                    &GATEWAY_PORT_NOT_DEFINED_ON_SERVICE,
                    &gateway.head.origin,
                    format!("spec.servers[{i}].port.number"),
                    [port.number.to_string(), text(selector)],
                );
            }
        }
    }
}

/// TCP ports of the selected workloads that Services lead to; `None` without workloads.
fn exposed(resources: &Resources, selector: &Labels) -> Option<BTreeSet<u32>> {
    let mut ports = None;
    let mut seen: BTreeSet<(&str, &Labels)> = BTreeSet::new();
    for workload in resources.workloads.selected(None, selector) {
        let ports = ports.get_or_insert_with(BTreeSet::new);
        let namespace = workload.pod.namespace();
        // Replicas have the same labels.
        if !seen.insert((namespace, workload.labels())) {
            continue;
        }
        for service in resources.services.selecting(namespace, workload.labels()) {
            let tcp = service
                .spec
                .ports
                .iter()
                .filter(|port| port.protocol == "TCP");
            ports.extend(tcp.map(|port| port.target_number()));
        }
    }
    ports
}
