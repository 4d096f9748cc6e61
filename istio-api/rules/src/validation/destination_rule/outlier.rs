//! Outlier detection: endpoints that fail are ejected for a while.

use crate::validation::primitives::number;
use crate::validation::report::{At, Check};
use istio_api::networking::v1alpha3::OutlierDetection;

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, detection: &OutlierDetection) {
    let times = [
        ("DR-48", "baseEjectionTime", &detection.base_ejection_time),
        ("DR-49", "interval", &detection.interval),
    ];
    for (rule, field, time) in times {
        if let Some(time) = time {
            check.test(rule, &at.field(field), number::duration(time));
        }
    }
    check.test(
        "DR-50",
        &at.field("maxEjectionPercent"),
        number::percent(detection.max_ejection_percent),
    );
    check.test(
        "DR-51",
        &at.field("minHealthPercent"),
        number::percent(detection.min_health_percent),
    );
    if detection.consecutive_errors != 0 {
        check.warn(
            "DR-53",
            &at.field("consecutiveErrors"),
            "consecutiveErrors is deprecated: want consecutiveGatewayErrors or consecutive5xxErrors",
        );
    }
    check.refuse(
        detection.consecutive_local_origin_failures.unwrap_or_default() > 0
            && !detection.split_external_local_origin_errors,
        "DR-54",
        &at.field("consecutiveLocalOriginFailures"),
        "local failures are counted separately only on request: want splitExternalLocalOriginErrors: true beside it",
    );
}
