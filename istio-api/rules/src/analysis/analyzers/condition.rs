//! Negative conditions that the control plane has set.

use super::super::catalogue::NEGATIVE_CONDITION_STATUS;
use super::super::report::Report;
use super::super::resources::{Head, Resources};

const BOUND: &[&str] = &["istio.io/WaypointBound"];
const ACCEPTED: &[&str] = &["ZtunnelAccepted", "WaypointAccepted"];

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    for service in resources.services.all() {
        check(&service.head, BOUND, report);
    }
    for entry in &resources.service_entries {
        check(&entry.head, BOUND, report);
    }
    for entry in &resources.workload_entries {
        check(&entry.head, BOUND, report);
    }
    for policy in &resources.authorization_policies {
        check(&policy.head, ACCEPTED, report);
    }
}

fn check(head: &Head, names: &[&str], report: &mut Report) {
    for condition in &head.status.negative {
        if names.contains(&condition.name.as_str()) {
            report.add(
                &NEGATIVE_CONDITION_STATUS,
                &head.origin,
                "status.conditions",
                [
                    condition.name.clone(),
                    condition.reason.clone(),
                    condition.message.clone(),
                ],
            );
        }
    }
}
