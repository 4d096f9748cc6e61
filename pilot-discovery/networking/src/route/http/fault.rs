//! Per-route configuration of the fault and CORS filters.

use istio_api::{
    envoy::{
        config::core::v3::RuntimeFractionalPercent,
        extensions::filters::{
            common::fault::v3::{FaultDelay, fault_delay::FaultDelaySecifier},
            http::{
                cors::v3::CorsPolicy,
                fault::v3::{FaultAbort, HttpFault, fault_abort},
            },
        },
        r#type::{matcher::v3::string_matcher::MatchPattern, v3::FractionalPercent},
    },
    networking::v1alpha3::{
        self as api,
        cors_policy::UnmatchedPreflights,
        http_fault_injection::{Abort, Delay, abort, delay::HttpDelayType},
        string_match::MatchType,
    },
};

use super::{fraction, hundredths, regex, string_matcher};

/// `None` if there is nothing to inject.
pub(super) fn fault(fault: &api::HttpFaultInjection) -> Option<HttpFault> {
    let delay = fault.delay.as_ref().and_then(delay);
    let abort = fault.abort.as_ref().and_then(abort);
    (delay.is_some() || abort.is_some()).then(|| HttpFault {
        delay,
        abort,
        ..Default::default()
    })
}

fn percentage(percentage: Option<&api::Percent>, legacy: i32) -> FractionalPercent {
    fraction(percentage.map_or_else(|| f64::from(legacy), |percent| percent.value))
}

fn delay(delay: &Delay) -> Option<FaultDelay> {
    // Envoy does not support exponential delays.
    let Some(HttpDelayType::FixedDelay(fixed)) = delay.http_delay_type else {
        return None;
    };
    Some(FaultDelay {
        percentage: Some(percentage(delay.percentage.as_ref(), delay.percent)),
        fault_delay_secifier: Some(FaultDelaySecifier::FixedDelay(fixed)),
    })
}

fn abort(abort: &Abort) -> Option<FaultAbort> {
    let error = match abort.error_type.as_ref()? {
        abort::ErrorType::HttpStatus(status) => {
            let status = u32::try_from(*status)
                .ok()
                .filter(|s| (200..600).contains(s))?;
            fault_abort::ErrorType::HttpStatus(status)
        }
        abort::ErrorType::GrpcStatus(name) => fault_abort::ErrorType::GrpcStatus(grpc_code(name)?),
        abort::ErrorType::Http2Error(_) => return None,
    };
    Some(FaultAbort {
        percentage: Some(percentage(abort.percentage.as_ref(), abort.percent)),
        error_type: Some(error),
        ..Default::default()
    })
}

/// Number of a gRPC status by its name.
fn grpc_code(name: &str) -> Option<u32> {
    const NAMES: [&str; 17] = [
        "OK",
        "CANCELLED",
        "UNKNOWN",
        "INVALID_ARGUMENT",
        "DEADLINE_EXCEEDED",
        "NOT_FOUND",
        "ALREADY_EXISTS",
        "PERMISSION_DENIED",
        "RESOURCE_EXHAUSTED",
        "FAILED_PRECONDITION",
        "ABORTED",
        "OUT_OF_RANGE",
        "UNIMPLEMENTED",
        "INTERNAL",
        "UNAVAILABLE",
        "DATA_LOSS",
        "UNAUTHENTICATED",
    ];
    let at = NAMES
        .iter()
        .position(|known| known.eq_ignore_ascii_case(name))?;
    u32::try_from(at).ok()
}

pub(super) fn cors(policy: &api::CorsPolicy) -> CorsPolicy {
    let exact = |origin: &String| string_matcher(MatchPattern::Exact(origin.clone()));
    let origins = if policy.allow_origins.is_empty() {
        policy.allow_origin.iter().map(exact).collect()
    } else {
        policy
            .allow_origins
            .iter()
            .filter_map(|origin| {
                Some(string_matcher(match origin.match_type.as_ref()? {
                    MatchType::Exact(text) => MatchPattern::Exact(text.clone()),
                    MatchType::Prefix(text) => MatchPattern::Prefix(text.clone()),
                    MatchType::Regex(text) => MatchPattern::SafeRegex(regex(text)),
                }))
            })
            .collect()
    };
    CorsPolicy {
        allow_origin_string_match: origins,
        allow_methods: policy.allow_methods.join(","),
        allow_headers: policy.allow_headers.join(","),
        expose_headers: policy.expose_headers.join(","),
        max_age: policy
            .max_age
            .map(|age| age.seconds.to_string())
            .unwrap_or_default(),
        allow_credentials: policy.allow_credentials,
        filter_enabled: Some(RuntimeFractionalPercent {
            default_value: Some(hundredths(100)),
            ..Default::default()
        }),
        forward_not_matching_preflights: Some(
            policy.unmatched_preflights() != UnmatchedPreflights::Ignore,
        ),
        ..Default::default()
    }
}
