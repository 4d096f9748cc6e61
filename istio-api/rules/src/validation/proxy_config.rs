//! Rules for ProxyConfig.

use super::SPEC;
use super::primitives::{label, number};
use super::report::Check;
use istio_api::networking::v1beta1::ProxyConfig;

pub(super) fn validate(check: &mut Check<'_>, spec: &ProxyConfig) {
    if let Some(selector) = &spec.selector {
        let at = SPEC.field("selector");
        label::selector(check, "PX-01", &at, "matchLabels", &selector.match_labels);
    }
    if let Some(concurrency) = spec.concurrency {
        check.test(
            "PX-02",
            &SPEC.field("concurrency"),
            number::not_negative(concurrency),
        );
    }
}
