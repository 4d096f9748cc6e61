//! Fields of `telemetry.istio.io` (CS-16).

use super::{NOT_EMPTY, PERCENT, REQUIRED_NOT_EMPTY, Row, TARGETS};

pub(super) const FIELDS: &[Row] = &[
    (
        "telemetry.v1alpha1.MetricSelector",
        "customMetric",
        NOT_EMPTY,
    ),
    ("telemetry.v1alpha1.ProviderRef", "name", REQUIRED_NOT_EMPTY),
    ("telemetry.v1alpha1.Telemetry", "targetRefs", TARGETS),
    (
        "telemetry.v1alpha1.Tracing",
        "randomSamplingPercentage",
        PERCENT,
    ),
    (
        "telemetry.v1alpha1.Tracing.Environment",
        "name",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "telemetry.v1alpha1.Tracing.Formatter",
        "value",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "telemetry.v1alpha1.Tracing.Literal",
        "value",
        REQUIRED_NOT_EMPTY,
    ),
    (
        "telemetry.v1alpha1.Tracing.RequestHeader",
        "name",
        REQUIRED_NOT_EMPTY,
    ),
];
