//! Load balancing.

use std::collections::BTreeSet;

use super::locality;
use crate::validation::primitives::number;
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::load_balancer_settings::consistent_hash_lb::{
    HashAlgorithm, HashKey, HttpCookie,
};
use istio_api::networking::v1alpha3::load_balancer_settings::{ConsistentHashLb, LbPolicy};
use istio_api::networking::v1alpha3::{LoadBalancerSettings, WarmupConfiguration};

/// Envoy's Maglev tables are smaller than this.
const TABLE_LIMIT: u64 = 5_000_011;

pub(super) fn validate(
    check: &mut Check<'_>,
    at: &At<'_>,
    settings: &LoadBalancerSettings,
    ejects: bool,
) {
    if let Some(LbPolicy::ConsistentHash(hash)) = &settings.lb_policy {
        consistent_hash(check, &at.field("consistentHash"), hash);
    }
    if let Some(warm) = &settings.warmup {
        warmup(check, &at.field("warmup"), warm);
    }
    if let Some(setting) = &settings.locality_lb_setting {
        locality::validate(check, &at.field("localityLbSetting"), setting, ejects);
    }
}

fn consistent_hash(check: &mut Check<'_>, at: &At<'_>, hash: &ConsistentHashLb) {
    if let Some(HashKey::HttpCookie(one)) = &hash.hash_key {
        cookie(check, &at.field("httpCookie"), one);
    }
    if hash.minimum_ring_size != 0 {
        let at = at.field("minimumRingSize");
        check.warn(
            "DR-25",
            &at,
            "minimumRingSize is deprecated here: want ringHash.minimumRingSize",
        );
        check.refuse(
            hash.hash_algorithm.is_some(),
            "DR-26",
            &at,
            "minimumRingSize is set beside ringHash or maglev: want it inside ringHash, or not at all",
        );
    }
    if let Some(HashAlgorithm::Maglev(maglev)) = &hash.hash_algorithm {
        let at = at.field("maglev");
        let at = at.field("tableSize");
        let size = maglev.table_size;
        if size == 0 {
            check.error(
                "DR-27",
                &at,
                "there is no table size: want a prime such as 65537",
            );
        } else if size >= TABLE_LIMIT {
            check.error(
                "DR-28",
                &at,
                format!("{size} is too large: want a prime below {TABLE_LIMIT}"),
            );
        } else if !is_prime(size) {
            check.error(
                "DR-29",
                &at,
                format!("{size} is not a prime: want one such as 65537"),
            );
        }
    }
}

/// 1 counts as a prime, as in 1.30.
fn is_prime(number: u64) -> bool {
    (2..)
        .take_while(|divisor| divisor * divisor <= number)
        .all(|divisor| !number.is_multiple_of(divisor))
}

fn cookie(check: &mut Check<'_>, at: &At<'_>, cookie: &HttpCookie) {
    check.refuse(
        cookie.name.is_empty(),
        "DR-21",
        &at.field("name"),
        "the cookie has no name: want one",
    );
    let mut names = BTreeSet::new();
    for (i, attribute) in cookie.attributes.iter().enumerate() {
        let at = at.item("attributes", i);
        let at = at.field("name");
        if attribute.name.is_empty() {
            check.error(
                "DR-23",
                &at,
                "the attribute has no name: want one such as SameSite",
            );
        } else if !names.insert(&attribute.name) {
            check.error(
                "DR-24",
                &at,
                format!(
                    "{} is the name of an earlier attribute: want each once",
                    quote(&attribute.name)
                ),
            );
        }
    }
}

fn warmup(check: &mut Check<'_>, at: &At<'_>, warmup: &WarmupConfiguration) {
    match &warmup.duration {
        None => check.error(
            "DR-30",
            &at.field("duration"),
            "there is no duration: want one such as 30s",
        ),
        Some(time) => check.test("DR-31", &at.field("duration"), number::duration(time)),
    }
    if let Some(percent) = warmup.minimum_percent
        && percent > 100.0
    {
        check.error(
            "DR-32",
            &at.field("minimumPercent"),
            format!("{percent} is not a valid percentage: want at most 100"),
        );
    }
    if let Some(aggression) = warmup.aggression
        && aggression < 1.0
    {
        check.error(
            "DR-33",
            &at.field("aggression"),
            format!("{aggression} is too small: want 1 or more"),
        );
    }
}

#[cfg(test)]
mod tests {
    use super::is_prime;

    #[test]
    fn primes() {
        for prime in [1, 2, 3, 5, 65_537, 4_999_999] {
            assert!(is_prime(prime), "{prime}");
        }
        for other in [4, 9, 65_536, 65_535] {
            assert!(!is_prime(other), "{other}");
        }
    }
}
