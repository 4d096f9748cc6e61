//! Constraints on fields. Names of messages leave out `istio.`, names of fields are those of JSON.

mod extensions;
mod networking;
mod security;
mod selectors;
mod telemetry;

use super::Limit::{self, Items, MinLength, Range, Required, Rule};

/// A message, one of its fields, and the constraints on it.
type Row = (&'static str, &'static str, &'static [Limit]);

const NO_STAR: Limit = Rule("!self.contains('*')", "want a label value without '*'");
/// CS-03
const TARGETS: &[Limit] = &[Items(0, 16)];
const NOT_EMPTY: &[Limit] = &[MinLength(1)];
const REQUIRED: &[Limit] = &[Required];
const REQUIRED_NOT_EMPTY: &[Limit] = &[Required, MinLength(1)];
const PERCENT: &[Limit] = &[Range(0, 100)];

/// Every row.
pub(super) fn rows() -> impl Iterator<Item = &'static Row> {
    [
        extensions::FIELDS,
        networking::FIELDS,
        security::FIELDS,
        telemetry::FIELDS,
        selectors::FIELDS,
    ]
    .into_iter()
    .flatten()
}
