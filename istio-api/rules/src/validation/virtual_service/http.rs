//! HTTP routes: which parts go together, and the parts.

use super::{Scope, action, cors, destination, fault, headers, http_match};
use crate::validation::primitives::number;
use crate::validation::report::{At, Check};
use istio_api::networking::v1alpha3::{HttpMirrorPolicy, HttpRoute};

pub(super) fn route(check: &mut Check<'_>, at: &At<'_>, route: &HttpRoute, scope: &Scope<'_>) {
    exclusive(check, at, route, scope);
    for (i, one) in route.r#match.iter().enumerate() {
        http_match::validate(check, &at.item("match", i), one, scope);
    }
    headers::validate(check, at, route.headers.as_ref());
    headers::authority(check, at, route.rewrite.as_ref(), route.headers.as_ref());
    if let Some(policy) = &route.cors_policy {
        cors::validate(check, &at.field("corsPolicy"), policy);
    }
    if let Some(faults) = &route.fault {
        fault::validate(check, &at.field("fault"), faults);
    }
    mirrors(check, at, route, scope);
    if let Some(redirect) = &route.redirect {
        action::redirect(check, &at.field("redirect"), redirect);
    }
    if let Some(answer) = &route.direct_response {
        action::answer(check, &at.field("directResponse"), answer);
    }
    if let Some(retries) = &route.retries {
        action::retries(check, &at.field("retries"), retries);
    }
    if let Some(rewrite) = &route.rewrite {
        action::rewrite(check, &at.field("rewrite"), rewrite);
    }
    for (i, to) in route.route.iter().enumerate() {
        let at = at.item("route", i);
        destination::required(check, &at, to.destination.as_ref(), scope);
        headers::validate(check, &at, to.headers.as_ref());
    }
    destination::weights(check, at, route.route.iter().map(|to| to.weight));
    if let Some(timeout) = &route.timeout {
        check.test(
            "VS-88",
            &at.field("timeout"),
            number::duration(timeout)
                .map_err(|message| format!("{message}; to have no timeout, leave it out")),
        );
    }
}

/// Parts that exclude each other.
fn exclusive(check: &mut Check<'_>, at: &At<'_>, route: &HttpRoute, scope: &Scope<'_>) {
    let routed = !route.route.is_empty();
    if route.delegate.is_some() {
        if scope.hosts.is_empty() {
            check.error(
                "VS-15",
                &at.field("delegate"),
                "a delegate cannot delegate: want a route, or hosts on this object",
            );
        } else {
            check.refuse(
                route.redirect.is_some(),
                "VS-13",
                &at.field("redirect"),
                "the route is delegated: want the redirect in the delegate",
            );
            check.refuse(
                routed,
                "VS-14",
                &at.field("route"),
                "the route is delegated: want the destinations in the delegate",
            );
            return;
        }
    }
    let others = [
        ("route", routed, "VS-16", "VS-21"),
        ("fault", route.fault.is_some(), "VS-17", "VS-22"),
        ("rewrite", route.rewrite.is_some(), "VS-18", "VS-23"),
    ];
    if route.redirect.is_some() {
        for (field, set, rule, _) in others {
            check.refuse(
                set,
                rule,
                &at.field(field),
                "a request that is redirected goes nowhere else: want this or redirect",
            );
        }
        check.refuse(
            route.direct_response.is_some(),
            "VS-19",
            &at.field("directResponse"),
            "a request is redirected or answered: want directResponse or redirect",
        );
    } else if route.direct_response.is_some() {
        for (field, set, _, rule) in others {
            check.refuse(
                set,
                rule,
                &at.field(field),
                "a request that is answered goes nowhere else: want this or directResponse",
            );
        }
    } else {
        check.refuse(
            !routed,
            "VS-24",
            &at.field("route"),
            "the route leads nowhere: want route, redirect or directResponse",
        );
    }
    check.refuse(
        route.mirror.is_some() && !route.mirrors.is_empty(),
        "VS-25",
        &at.field("mirror"),
        "mirror and mirrors are both set: want one of them",
    );
}

fn mirrors(check: &mut Check<'_>, at: &At<'_>, route: &HttpRoute, scope: &Scope<'_>) {
    if let Some(percent) = route.mirror_percent {
        let at = at.field("mirrorPercent");
        if percent > 100 {
            check.error(
                "VS-65",
                &at,
                format!("{percent} is not a valid percentage: want 0 to 100"),
            );
        }
        check.warn(
            "VS-66",
            &at,
            "mirrorPercent is deprecated: want mirrorPercentage.value",
        );
    }
    if let Some(percentage) = &route.mirror_percentage {
        let at = at.field("mirrorPercentage");
        check.test(
            "VS-67",
            &at.field("value"),
            number::range_percent(percentage.value),
        );
    }
    if let Some(mirror) = &route.mirror {
        let rules = destination::Rules::all("VS-68");
        destination::destination(check, rules, &at.field("mirror"), mirror, scope.converted);
    }
    for (i, mirror) in route.mirrors.iter().enumerate() {
        one_mirror(check, &at.item("mirrors", i), mirror, scope);
    }
}

fn one_mirror(check: &mut Check<'_>, at: &At<'_>, mirror: &HttpMirrorPolicy, scope: &Scope<'_>) {
    match &mirror.destination {
        Some(to) => {
            let rules = destination::Rules::ROUTE;
            destination::destination(check, rules, &at.field("destination"), to, scope.converted);
        }
        None => check.error(
            "VS-70",
            &at.field("destination"),
            "there is no destination: want one with the host of a service",
        ),
    }
    if let Some(percentage) = &mirror.percentage {
        let at = at.field("percentage");
        check.test(
            "VS-71",
            &at.field("value"),
            number::range_percent(percentage.value),
        );
    }
}
