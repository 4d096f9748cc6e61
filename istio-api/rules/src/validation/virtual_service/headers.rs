//! Headers that routes add, set and remove.

use std::collections::BTreeMap;

use crate::validation::primitives::{Outcome, header};
use crate::validation::report::{At, Check};
use istio_api::networking::v1alpha3::{Headers, HttpRewrite};

/// `headers` of a route or of one of its destinations.
pub(super) fn validate(check: &mut Check<'_>, at: &At<'_>, headers: Option<&Headers>) {
    let Some(headers) = headers else {
        return;
    };
    let at = at.field("headers");
    if let Some(request) = &headers.request {
        let at = at.field("request");
        let rules = ("VS-41", "VS-42");
        values(check, rules, &at, "set", &request.set, header::request_name);
        values(check, rules, &at, "add", &request.add, header::request_name);
        removed(check, "VS-43", &at, &request.remove);
    }
    if let Some(response) = &headers.response {
        let at = at.field("response");
        let rules = ("VS-44", "VS-45");
        values(check, rules, &at, "set", &response.set, header::plain_name);
        values(check, rules, &at, "add", &response.add, header::plain_name);
        removed(check, "VS-46", &at, &response.remove);
    }
}

fn values(
    check: &mut Check<'_>,
    (name_rule, value_rule): (&'static str, &'static str),
    at: &At<'_>,
    field: &'static str,
    headers: &BTreeMap<String, String>,
    name_is_right: fn(&str) -> Outcome,
) {
    for (name, value) in headers {
        let at = at.entry(field, name);
        check.test(name_rule, &at, name_is_right(name));
        check.test(value_rule, &at, header::value(value));
    }
}

fn removed(check: &mut Check<'_>, rule: &'static str, at: &At<'_>, names: &[String]) {
    for (i, name) in names.iter().enumerate() {
        check.test(rule, &at.item("remove", i), header::plain_name(name));
    }
}

/// The authority may be written once: by the rewrite or by one header of the route.
pub(super) fn authority(
    check: &mut Check<'_>,
    at: &At<'_>,
    rewrite: Option<&HttpRewrite>,
    headers: Option<&Headers>,
) {
    let Some(request) = headers.and_then(|headers| headers.request.as_ref()) else {
        return;
    };
    let mut earlier = rewrite.map_or("", |rewrite| rewrite.authority.as_str());
    let at = at.field("headers");
    let at = at.field("request");
    for (field, headers) in [("set", &request.set), ("add", &request.add)] {
        for (name, value) in headers {
            if !name.eq_ignore_ascii_case("host") && !name.eq_ignore_ascii_case(":authority") {
                continue;
            }
            check.refuse(
                !earlier.is_empty(),
                "VS-47",
                &at.entry(field, name),
                "the authority is written more than once: want one of rewrite.authority and a header",
            );
            earlier = value;
        }
    }
}
