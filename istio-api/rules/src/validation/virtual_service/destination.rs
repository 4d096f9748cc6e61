//! Destinations and their weights.

use super::Scope;
use crate::validation::primitives::{host, number};
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::{Destination, RouteDestination};

/// Rule ids of the parts of a destination.
#[derive(Clone, Copy)]
pub(in crate::validation) struct Rules {
    any: &'static str,
    host: &'static str,
    subset: &'static str,
    port: &'static str,
    port_name: &'static str,
}

impl Rules {
    /// In a route.
    pub(super) const ROUTE: Self = Self {
        any: "VS-92",
        host: "VS-93",
        subset: "VS-94",
        port: "VS-95",
        port_name: "VS-96",
    };

    /// Where one rule covers all parts.
    pub(in crate::validation) const fn all(rule: &'static str) -> Self {
        Self {
            any: rule,
            host: rule,
            subset: rule,
            port: rule,
            port_name: rule,
        }
    }
}

/// One destination.
pub(in crate::validation) fn destination(
    check: &mut Check<'_>,
    rules: Rules,
    at: &At<'_>,
    to: &Destination,
    converted: bool,
) {
    if converted {
        return;
    }
    if to.host == "*" {
        check.error(
            rules.any,
            &at.field("host"),
            "\"*\" is not a valid destination: want the name of a service",
        );
    } else {
        check.test(rules.host, &at.field("host"), host::wildcard(&to.host));
    }
    if !to.subset.is_empty() {
        check.test(rules.subset, &at.field("subset"), host::label(&to.subset));
    }
    let Some(port) = &to.port else {
        return;
    };
    let at = at.field("port");
    check.test(rules.port, &at.field("number"), number::port(port.number));
    if !port.name.is_empty() {
        let message = format!(
            "ports are no longer given by name here, so {} is not used: want the number",
            quote(&port.name)
        );
        // Beside a number, 1.30 ignores the name.
        if number::is_port(port.number) {
            check.warn(rules.port_name, &at.field("name"), message);
        } else {
            check.error(rules.port_name, &at.field("name"), message);
        }
    }
}

/// The destination of one element of a route, which is required.
pub(super) fn required(
    check: &mut Check<'_>,
    at: &At<'_>,
    to: Option<&Destination>,
    scope: &Scope<'_>,
) {
    match to {
        Some(to) => destination(
            check,
            Rules::ROUTE,
            &at.field("destination"),
            to,
            scope.converted,
        ),
        None => check.error(
            "VS-91",
            &at.field("destination"),
            "there is no destination: want one with the host of a service",
        ),
    }
}

/// Weights of the elements of a route.
pub(super) fn weights(
    check: &mut Check<'_>,
    at: &At<'_>,
    weights: impl Iterator<Item = i32> + Clone,
) {
    for (i, weight) in weights.clone().enumerate() {
        let at = at.item("route", i);
        check.test("VS-97", &at.field("weight"), number::not_negative(weight));
    }
    let (count, sum) = weights.fold((0_usize, 0_i64), |(count, sum), weight| {
        (count + 1, sum + i64::from(weight))
    });
    check.refuse(
        count > 1 && sum == 0,
        "VS-98",
        &at.field("route"),
        "the weights sum to 0, so nothing would be chosen: want a weight for at least one destination",
    );
}

/// The route of a TLS or TCP rule.
pub(super) fn plain_route(
    check: &mut Check<'_>,
    at: &At<'_>,
    route: &[RouteDestination],
    scope: &Scope<'_>,
) {
    check.refuse(
        route.is_empty(),
        "VS-110",
        &at.field("route"),
        "there is no route: want at least one destination",
    );
    for (i, to) in route.iter().enumerate() {
        required(check, &at.item("route", i), to.destination.as_ref(), scope);
    }
    weights(check, at, route.iter().map(|to| to.weight));
}
