//! Retries of a route.

use istio_api::{
    any,
    envoy::{
        config::route::v3::{
            RetryPolicy,
            retry_policy::{
                RetryBackOff, RetryHostPredicate, RetryPriority, retry_host_predicate,
                retry_priority,
            },
        },
        extensions::retry::{
            host::previous_hosts::v3::PreviousHostsPredicate,
            priority::previous_priorities::v3::PreviousPrioritiesConfig,
        },
    },
    networking::v1alpha3 as api,
};
use pilot_model::mesh::Mesh;

const DEFAULT_CONDITIONS: &str =
    "connect-failure,refused-stream,unavailable,cancelled,retriable-status-codes";
const BY_STATUS: &str = "retriable-status-codes";
const DEFAULT_ATTEMPTS: u32 = 2;
/// How many times a different host is looked for before a previous one is used again.
const HOST_SELECTION_ATTEMPTS: i64 = 5;
/// Number of priorities tried before their loads are recomputed.
const PRIORITY_UPDATE: i32 = 2;

/// The policy of a route: its own, else the mesh's, else the built-in one; `None` = no retries.
///
/// `hashed`: the endpoint is chosen by consistent hashing, so that another host cannot be chosen.
pub(super) fn policy(
    retries: Option<&api::HttpRetry>,
    mesh: &Mesh,
    hashed: bool,
) -> Option<RetryPolicy> {
    let mut policy = RetryPolicy {
        retry_on: DEFAULT_CONDITIONS.to_owned(),
        num_retries: Some(DEFAULT_ATTEMPTS),
        retry_host_predicate: if hashed {
            Vec::new()
        } else {
            vec![previous_hosts()]
        },
        host_selection_retry_max_attempts: HOST_SELECTION_ATTEMPTS,
        ..Default::default()
    };
    let Some(asked) = retries.or(mesh.default_retry.as_ref()) else {
        return Some(policy);
    };
    // No attempts, or a negative number: failures are passed on.
    let attempts = u32::try_from(asked.attempts)
        .ok()
        .filter(|attempts| *attempts > 0)?;
    policy.num_retries = Some(attempts);
    if !asked.retry_on.is_empty() {
        (policy.retry_on, policy.retriable_status_codes) = conditions(&asked.retry_on);
    }
    policy.per_try_timeout = asked.per_try_timeout;
    policy.retry_back_off = asked.backoff.map(|base| RetryBackOff {
        base_interval: Some(base),
        ..Default::default()
    });
    match asked.retry_ignore_previous_hosts {
        Some(true) => policy.retry_host_predicate = vec![previous_hosts()],
        Some(false) => policy.retry_host_predicate.clear(),
        None => {}
    }
    if asked.retry_remote_localities == Some(true) {
        policy.retry_priority = Some(RetryPriority {
            name: "envoy.retry_priorities.previous_priorities".to_owned(),
            config_type: Some(retry_priority::ConfigType::TypedConfig(any::pack(
                &PreviousPrioritiesConfig {
                    update_frequency: PRIORITY_UPDATE,
                },
            ))),
        });
    }
    Some(policy)
}

/// Splits a comma list into conditions and HTTP status codes.
fn conditions(list: &str) -> (String, Vec<u32>) {
    let mut conditions: Vec<&str> = Vec::new();
    let mut codes = Vec::new();
    for part in list
        .split(',')
        .map(str::trim)
        .filter(|part| !part.is_empty())
    {
        match part.parse::<u16>().map(http_status) {
            Ok(Some(code)) => codes.push(code),
            _ => conditions.push(part),
        }
    }
    if !codes.is_empty() && !conditions.contains(&BY_STATUS) {
        conditions.push(BY_STATUS);
    }
    (conditions.join(","), codes)
}

/// The number, if it is an HTTP status code.
fn http_status(code: u16) -> Option<u32> {
    let known = matches!(
        code,
        100..=103 | 200..=208 | 226 | 300..=305 | 307 | 308 | 400..=418 | 421..=426 | 428 | 429
            | 431 | 451 | 500..=508 | 510 | 511
    );
    known.then_some(u32::from(code))
}

fn previous_hosts() -> RetryHostPredicate {
    RetryHostPredicate {
        name: "envoy.retry_host_predicates.previous_hosts".to_owned(),
        config_type: Some(retry_host_predicate::ConfigType::TypedConfig(any::pack(
            &PreviousHostsPredicate {},
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_told_from_conditions() {
        let (on, codes) = conditions("5xx, gateway-error,503");
        assert_eq!(on, "5xx,gateway-error,retriable-status-codes");
        assert_eq!(codes, [503]);
        let (on, codes) = conditions("retriable-status-codes,404,999");
        assert_eq!(on, "retriable-status-codes,999");
        assert_eq!(codes, [404]);
    }

    #[test]
    fn zero_attempts_turn_retries_off_and_absence_takes_the_default() {
        let mesh = Mesh::default();
        assert_eq!(policy(Some(&api::HttpRetry::default()), &mesh, false), None);
        let default = policy(None, &mesh, false).unwrap();
        assert_eq!(default.num_retries, Some(2));
        assert_eq!(default.retry_host_predicate.len(), 1);
        assert!(
            policy(None, &mesh, true)
                .unwrap()
                .retry_host_predicate
                .is_empty()
        );
    }
}
