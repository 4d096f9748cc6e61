//! Balancing by region, zone and subzone.

use std::collections::{BTreeMap, BTreeSet};

use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::LocalityLoadBalancerSetting;
use istio_api::networking::v1alpha3::locality_load_balancer_setting::{Distribute, Failover};
use istio_api::well_known::labels;

/// `ejects`: outlier detection is on, which failover depends on.
pub(in crate::validation) fn validate(
    check: &mut Check<'_>,
    at: &At<'_>,
    setting: &LocalityLoadBalancerSetting,
    ejects: bool,
) {
    check.refuse(
        !setting.distribute.is_empty() && !setting.failover.is_empty(),
        "LB-01",
        at,
        "distribute and failover are both set: want one of them",
    );
    let topology = [labels::REGION, labels::ZONE, labels::SUBZONE];
    check.refuse(
        !setting.failover.is_empty()
            && setting
                .failover_priority
                .iter()
                .any(|key| topology.contains(&key.as_str())),
        "LB-02",
        &at.field("failoverPriority"),
        "failover and failoverPriority both use region, zone or subzone: want one of the two",
    );
    for (i, share) in setting.distribute.iter().enumerate() {
        distribute(check, &at.item("distribute", i), share);
    }
    let mut seen = Seen::default();
    for (i, share) in setting.distribute.iter().enumerate() {
        let at = at.item("distribute", i);
        seen.add(check, &at.field("from"), &share.from);
    }
    for (i, over) in setting.failover.iter().enumerate() {
        failover(check, &at.item("failover", i), over);
    }
    let fails_over = !setting.failover.is_empty() || !setting.failover_priority.is_empty();
    if fails_over && !ejects {
        check.warn(
            "LB-11",
            at,
            "failover depends on outlierDetection, which the policy lacks: want it beside loadBalancer",
        );
    }
}

fn distribute(check: &mut Check<'_>, at: &At<'_>, share: &Distribute) {
    let mut seen = Seen::default();
    for (to, weight) in &share.to {
        let at = at.entry("to", to);
        if !(1..=100).contains(weight) {
            check.error(
                "LB-03",
                &at,
                format!("{weight} is not a valid weight: want 1 to 100"),
            );
        }
        seen.add(check, &at, to);
    }
    let sum: u64 = share.to.values().copied().map(u64::from).sum();
    if sum != 100 {
        check.error(
            "LB-04",
            &at.field("to"),
            format!("the weights sum to {sum}: want 100"),
        );
    }
}

fn failover(check: &mut Check<'_>, at: &At<'_>, over: &Failover) {
    check.refuse(
        over.from == over.to,
        "LB-08",
        at,
        "the region fails over to itself: want another region in to",
    );
    for (field, region) in [("from", &over.from), ("to", &over.to)] {
        let at = at.field(field);
        if region.contains('/') {
            check.error(
                "LB-09",
                &at,
                format!("{} has a slash: want a region alone", quote(region)),
            );
        }
        if region.contains('*') {
            check.error(
                "LB-10",
                &at,
                format!(
                    "{} has a wildcard: want the name of a region",
                    quote(region)
                ),
            );
        }
    }
}

/// Localities seen so far: the subzones by region and zone. `*` stands for all of a level.
#[derive(Default)]
struct Seen<'a>(BTreeMap<&'a str, BTreeMap<&'a str, BTreeSet<&'a str>>>);

impl<'a> Seen<'a> {
    fn add(&mut self, check: &mut Check<'_>, at: &At<'_>, locality: &'a str) {
        let wildcards = locality.matches('*').count();
        if wildcards > 1 || (wildcards == 1 && !locality.ends_with('*')) {
            check.error(
                "LB-05",
                at,
                format!(
                    "{} has a misplaced \"*\": want at most one, at the end",
                    quote(locality)
                ),
            );
            return;
        }
        if locality.splitn(3, '/').any(str::is_empty) {
            check.error(
                "LB-06",
                at,
                format!(
                    "{} has an empty part: want region, region/zone or region/zone/subzone",
                    quote(locality)
                ),
            );
            return;
        }
        let mut parts = locality.splitn(3, '/');
        let region = parts.next().unwrap_or_default();
        if self.overlaps(region, parts.next(), parts.next()) {
            check.error(
                "LB-07",
                at,
                format!(
                    "{} overlaps with an earlier one: want each locality once",
                    quote(locality)
                ),
            );
        }
    }

    fn overlaps(
        &mut self,
        region: &'a str,
        zone: Option<&'a str>,
        subzone: Option<&'a str>,
    ) -> bool {
        if self.0.contains_key("*") {
            return true;
        }
        let Some(zone) = zone else {
            let all = BTreeMap::from([("*", BTreeSet::from(["*"]))]);
            return self.0.insert(region, all).is_some();
        };
        let zones = self.0.entry(region).or_default();
        if zones.contains_key("*") {
            return true;
        }
        let Some(subzone) = subzone else {
            return zones.insert(zone, BTreeSet::from(["*"])).is_some();
        };
        let subzones = zones.entry(zone).or_default();
        subzones.contains("*") || !subzones.insert(subzone)
    }
}

#[cfg(test)]
mod tests {
    use super::Seen;

    fn overlap(localities: &[&str]) -> bool {
        let mut seen = Seen::default();
        let mut found = false;
        for one in localities {
            let mut parts = one.splitn(3, '/');
            let region = parts.next().unwrap();
            found |= seen.overlaps(region, parts.next(), parts.next());
        }
        found
    }

    #[test]
    fn overlaps_in_both_orders() {
        for bad in [
            ["us", "us"],
            ["us", "us/z1"],
            ["us/z1", "us"],
            ["us/*", "us/z1"],
            ["us/z1", "us/z1"],
            ["us", "us/z1/a"],
            ["us/z1", "us/z1/a"],
            ["us/z1/a", "us/z1/a"],
            ["us/z1/a", "us/z1"],
            ["*", "eu"],
        ] {
            assert!(overlap(&bad), "{bad:?}");
        }
        for good in [
            ["us/z1", "us/z2"],
            ["us", "eu"],
            ["us/z1", "us/*"],
            ["us/z1/a", "us/z1/b"],
            ["eu", "*"],
        ] {
            assert!(!overlap(&good), "{good:?}");
        }
    }
}
