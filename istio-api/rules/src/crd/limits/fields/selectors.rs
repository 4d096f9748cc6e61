//! Fields of selectors, which several APIs use (CS-01, CS-03).

use super::{NO_STAR, Row};
use crate::crd::limits::Limit::{
    self, Elements, Length, Pattern, Properties, Range, Required, Rule,
};

/// CS-01
const LABELS: &[Limit] = &[
    Properties(0, 4096),
    Elements(&[Length(0, 63), NO_STAR]),
    Rule(
        "self.all(key, key != '')",
        "want label keys that are not empty",
    ),
    Rule(
        "self.all(key, !key.contains('*'))",
        "want label keys without '*'",
    ),
];
const ABSENT: &[Limit] = &[Rule(
    "self == ''",
    "want no namespace: only targets in the namespace of the object are selected",
)];

pub(super) const FIELDS: &[Row] = &[
    (
        "type.v1beta1.PolicyTargetReference",
        "group",
        &[
            Length(0, 253),
            Pattern("^$|^[a-z0-9]([-a-z0-9]*[a-z0-9])?(\\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*$"),
        ],
    ),
    (
        "type.v1beta1.PolicyTargetReference",
        "kind",
        &[
            Required,
            Length(1, 63),
            Pattern("^[a-zA-Z]([-a-zA-Z0-9]*[a-zA-Z0-9])?$"),
        ],
    ),
    (
        "type.v1beta1.PolicyTargetReference",
        "name",
        &[Required, Length(1, 253)],
    ),
    ("type.v1beta1.PolicyTargetReference", "namespace", ABSENT),
    (
        "type.v1beta1.PortSelector",
        "number",
        &[Required, Range(1, 65_535)],
    ),
    ("type.v1beta1.WorkloadSelector", "matchLabels", LABELS),
];
