//! Cross-origin requests.

use crate::validation::primitives::{header, number, text};
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::CorsPolicy;
use istio_api::networking::v1alpha3::string_match::MatchType;

const METHODS: [&str; 10] = [
    "GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "CONNECT", "OPTIONS", "TRACE", "*",
];

pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, cors: &CorsPolicy) {
    for (i, origin) in cors.allow_origins.iter().enumerate() {
        let at = at.item("allowOrigins", i);
        match &origin.match_type {
            Some(MatchType::Regex(pattern)) if !pattern.is_empty() => {
                check.test("VS-49", &at.field("regex"), text::regex(pattern));
            }
            Some(MatchType::Exact(value) | MatchType::Prefix(value)) if !value.is_empty() => {}
            _ => check.error(
                "VS-48",
                &at,
                "the origin is empty: want one such as exact: \"https://example.com\"",
            ),
        }
    }
    for (i, method) in cors.allow_methods.iter().enumerate() {
        if !METHODS.contains(&method.as_str()) {
            check.error(
                "VS-50",
                &at.item("allowMethods", i),
                format!(
                    "{} is not an HTTP method: want one such as GET, in upper case, or \"*\"",
                    quote(method)
                ),
            );
        }
    }
    for (i, name) in cors.allow_headers.iter().enumerate() {
        check.test(
            "VS-51",
            &at.item("allowHeaders", i),
            header::cors_name(name),
        );
    }
    for (i, name) in cors.expose_headers.iter().enumerate() {
        check.test(
            "VS-52",
            &at.item("exposeHeaders", i),
            header::cors_name(name),
        );
    }
    if let Some(age) = &cors.max_age {
        let at = at.field("maxAge");
        check.test("VS-53", &at, number::duration(age));
        check.refuse(
            age.nanos != 0,
            "VS-54",
            &at,
            "browsers accept only whole seconds: want a duration such as 24h or 90s",
        );
    }
}
