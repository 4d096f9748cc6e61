//! Fault injection.

use crate::validation::primitives::number;
use crate::validation::report::{At, Check};
use istio_api::networking::v1alpha3::http_fault_injection::abort::ErrorType;
use istio_api::networking::v1alpha3::http_fault_injection::delay::HttpDelayType;
use istio_api::networking::v1alpha3::http_fault_injection::{Abort, Delay};
use istio_api::networking::v1alpha3::{HttpFaultInjection, Percent};

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, fault: &HttpFaultInjection) {
    check.refuse(
        fault.abort.is_none() && fault.delay.is_none(),
        "VS-55",
        at,
        "there is no fault: want abort or delay",
    );
    if let Some(abort) = &fault.abort {
        aborted(check, &at.field("abort"), abort);
    }
    if let Some(delay) = &fault.delay {
        delayed(check, &at.field("delay"), delay);
    }
}

fn aborted(check: &mut Check<'_>, at: &At<'_>, abort: &Abort) {
    share(check, "VS-56", at, abort.percentage.as_ref(), abort.percent);
    match &abort.error_type {
        Some(ErrorType::HttpStatus(status)) => {
            check.test(
                "VS-58",
                &at.field("httpStatus"),
                number::http_status(i64::from(*status)),
            );
        }
        Some(ErrorType::GrpcStatus(status)) => {
            check.test(
                "VS-59",
                &at.field("grpcStatus"),
                number::grpc_status(status),
            );
        }
        Some(ErrorType::Http2Error(_)) => check.error(
            "VS-60",
            &at.field("http2Error"),
            "Envoy cannot abort with an HTTP/2 error: want httpStatus or grpcStatus",
        ),
        None => check.warn(
            "VS-61",
            at,
            "there is no error to abort with, so nothing is aborted: want httpStatus or grpcStatus",
        ),
    }
}

fn delayed(check: &mut Check<'_>, at: &At<'_>, delay: &Delay) {
    share(check, "VS-62", at, delay.percentage.as_ref(), delay.percent);
    match &delay.http_delay_type {
        Some(HttpDelayType::FixedDelay(time)) => {
            check.test("VS-63", &at.field("fixedDelay"), number::duration(time));
        }
        Some(HttpDelayType::ExponentialDelay(_)) => check.error(
            "VS-64",
            &at.field("exponentialDelay"),
            "Envoy does not support exponential delays: want fixedDelay",
        ),
        None => {}
    }
}

fn share(
    check: &mut Check<'_>,
    rule: &'static str,
    at: &At<'_>,
    percentage: Option<&Percent>,
    old: i32,
) {
    match percentage {
        Some(percentage) => {
            let at = at.field("percentage");
            check.test(rule, &at.field("value"), number::fraction(percentage.value));
        }
        None if !(0..=100).contains(&old) => check.warn(
            "VS-57",
            &at.field("percent"),
            format!(
                "{old} is not a percentage and is taken as {}: want percentage.value from 0 to 100",
                old.clamp(0, 100)
            ),
        ),
        None => {}
    }
}
