//! Workloads that run as the sidecar's user: their traffic is not captured.

use std::sync::Arc;

use super::super::catalogue::INVALID_APPLICATION_UID;
use super::super::kubernetes::{PROXY, Pod};
use super::super::origin::Origin;
use super::super::report::Report;
use super::super::resources::Resources;

/// User of the sidecar.
const UID: i64 = 1337;
/// Containers that may run as that user.
const OWN: [&str; 2] = [PROXY, "istio-operator"];

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    for workload in resources.workloads.all() {
        if !workload.pod.is_control_plane() {
            check(
                &workload.pod.spec,
                "spec",
                &workload.pod.head.origin,
                report,
            );
        }
    }
    for deployment in &resources.deployments {
        if !deployment.is_control_plane() {
            let at = "spec.template.spec";
            check(
                &deployment.spec.template,
                at,
                &deployment.head.origin,
                report,
            );
        }
    }
}

fn check(pod: &Pod, at: &str, origin: &Arc<Origin>, report: &mut Report) {
    let field = if pod.user == Some(UID) {
        format!("{at}.securityContext.runAsUser")
    } else {
        let is_wrong = |one: &super::super::kubernetes::Container| {
            one.user == Some(UID) && !OWN.contains(&one.name.as_str())
        };
        match pod.containers.iter().position(is_wrong) {
            Some(index) => format!("{at}.containers[{index}].securityContext.runAsUser"),
            None => return,
        }
    };
    report.add(&INVALID_APPLICATION_UID, origin, field, []);
}
