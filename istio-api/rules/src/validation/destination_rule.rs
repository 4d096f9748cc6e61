//! Rules for DestinationRule.

mod balance;
pub(super) mod locality;
mod outlier;
mod policy;
pub(super) mod pool;
mod tls;

use std::collections::BTreeSet;

use super::SPEC;
use super::primitives::export::{Export, export_to};
use super::primitives::{host, label};
use super::report::{Check, quote};
use istio_api::networking::v1alpha3::DestinationRule;

pub(super) fn validate(check: &mut Check<'_>, spec: &DestinationRule) {
    check.test("DR-01", &SPEC.field("host"), host::wildcard(&spec.host));
    if let Some(traffic) = &spec.traffic_policy {
        policy::validate(check, &SPEC.field("trafficPolicy"), traffic);
    }
    let mut names = BTreeSet::new();
    for (i, subset) in spec.subsets.iter().enumerate() {
        let at = SPEC.item("subsets", i);
        let name = at.field("name");
        check.test("DR-03", &name, host::label(&subset.name));
        if !names.insert(&subset.name) && !subset.name.is_empty() {
            check.error(
                "DR-04",
                &name,
                format!(
                    "{} is the name of an earlier subset: want each name once",
                    quote(&subset.name)
                ),
            );
        }
        label::labels(check, "DR-05", &at, "labels", &subset.labels);
        if let Some(traffic) = &subset.traffic_policy {
            policy::validate(check, &at.field("trafficPolicy"), traffic);
        }
    }
    export_to(check, "DR-07", &SPEC, &spec.export_to, Export::Usual);
    if let Some(selector) = &spec.workload_selector {
        let at = SPEC.field("workloadSelector");
        label::selector(check, "DR-09", &at, "matchLabels", &selector.match_labels);
        let meta = check.meta;
        let elsewhere = |name: &String| name != "." && *name != meta.namespace;
        check.refuse(
            spec.export_to.iter().any(elsewhere),
            "DR-08",
            &SPEC.field("exportTo"),
            "a rule with a workloadSelector applies to its own namespace only: want [\".\"], or leave it out",
        );
    }
}
