//! Conditions of HTTP routes.

use super::{Scope, gateways};
use crate::validation::primitives::{header, host, label, number, text};
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::HttpMatchRequest;

pub(super) fn validate(
    check: &mut Check<'_>,
    at: &At<'_>,
    one: &HttpMatchRequest,
    scope: &Scope<'_>,
) {
    for (name, value) in &one.headers {
        let at = at.entry("headers", name);
        check.test("VS-27", &at, header::match_name(name));
        check.test("VS-28", &at, text::string_match(value));
    }
    for (name, value) in &one.without_headers {
        let at = at.entry("withoutHeaders", name);
        check.test("VS-29", &at, header::match_name(name));
        check.test("VS-30", &at, text::without_match(value));
    }
    if !scope.gateways_only {
        claims(check, at, "headers", one.headers.keys());
        claims(check, at, "withoutHeaders", one.without_headers.keys());
    }
    if let Some(uri) = &one.uri {
        check.test("VS-31", &at.field("uri"), text::uri_match(uri));
    }
    let texts = [
        ("VS-32", "scheme", &one.scheme),
        ("VS-33", "method", &one.method),
        ("VS-34", "authority", &one.authority),
    ];
    for (rule, field, value) in texts {
        if let Some(value) = value {
            check.test(rule, &at.field(field), text::string_match(value));
        }
    }
    for (name, value) in &one.query_params {
        check.test(
            "VS-35",
            &at.entry("queryParams", name),
            text::string_match(value),
        );
    }
    if one.port != 0 {
        check.test("VS-36", &at.field("port"), number::port(one.port));
    }
    label::labels(check, "VS-37", at, "sourceLabels", &one.source_labels);
    gateways(check, "VS-38", at, &one.gateways, scope.converted);
    if !one.source_namespace.is_empty() {
        check.test(
            "VS-39",
            &at.field("sourceNamespace"),
            host::label(&one.source_namespace),
        );
    }
}

fn claims<'a>(
    check: &mut Check<'_>,
    at: &At<'_>,
    field: &'static str,
    names: impl Iterator<Item = &'a String>,
) {
    for name in names.filter(|name| header::is_claim(name)) {
        check.error(
            "VS-11",
            &at.entry(field, name),
            format!(
                "{} is a claim, and only gateways route by claims: want gateways without \"mesh\"",
                quote(name)
            ),
        );
    }
}
