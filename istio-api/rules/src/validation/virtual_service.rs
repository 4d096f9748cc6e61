//! Rules for VirtualService.

mod action;
mod cors;
mod destination;
mod fault;
mod headers;
mod http;
mod http_match;
mod shadow;
mod tcp;
mod tls;

use super::SPEC;
use super::metadata::is_converted_route;
use super::primitives::export::{Export, export_to};
use super::primitives::host;
use super::report::{At, Check, quote};
use istio_api::networking::v1alpha3::VirtualService;

pub(super) use destination::{Rules as DestinationRules, destination};

/// The gateway that stands for all sidecars.
const MESH: &str = "mesh";

/// What the rules of a route must know about the object around it.
struct Scope<'a> {
    hosts: &'a [String],
    /// Bound to gateways and not to sidecars.
    gateways_only: bool,
    /// Made from the Gateway API, whose names follow other rules.
    converted: bool,
}

pub(super) fn validate(check: &mut Check<'_>, spec: &VirtualService) {
    let in_mesh = spec.gateways.is_empty() || spec.gateways.iter().any(|gateway| gateway == MESH);
    let scope = Scope {
        hosts: &spec.hosts,
        gateways_only: !in_mesh,
        converted: is_converted_route(check),
    };
    if spec.hosts.is_empty() {
        delegate(check, spec);
    }
    gateways(check, "VS-05", &SPEC, &spec.gateways, scope.converted);
    hosts(check, spec, &scope);
    check.refuse(
        spec.http.is_empty() && spec.tcp.is_empty() && spec.tls.is_empty(),
        "VS-09",
        &SPEC,
        "there is no route: want one of http, tls and tcp",
    );
    for (i, route) in spec.http.iter().enumerate() {
        http::route(check, &SPEC.item("http", i), route, &scope);
    }
    for (i, route) in spec.tls.iter().enumerate() {
        tls::route(check, &SPEC.item("tls", i), route, &scope);
    }
    for (i, route) in spec.tcp.iter().enumerate() {
        tcp::route(check, &SPEC.item("tcp", i), route, &scope);
    }
    export_to(check, "VS-12", &SPEC, &spec.export_to, Export::Usual);
    shadow::http(check, &spec.http);
    shadow::tls(check, &spec.tls);
    shadow::tcp(check, &spec.tcp);
}

fn delegate(check: &mut Check<'_>, spec: &VirtualService) {
    check.refuse(
        !spec.gateways.is_empty(),
        "VS-02",
        &SPEC.field("gateways"),
        "without hosts this is a delegate, which is bound where its parent is: leave gateways out, or add hosts",
    );
    check.refuse(
        !spec.tls.is_empty(),
        "VS-03",
        &SPEC.field("tls"),
        "without hosts this is a delegate, which has http routes only: leave tls out, or add hosts",
    );
    check.refuse(
        !spec.tcp.is_empty(),
        "VS-04",
        &SPEC.field("tcp"),
        "without hosts this is a delegate, which has http routes only: leave tcp out, or add hosts",
    );
}

/// References to gateways: `namespace/name`, `mesh`, or a name.
fn gateways(
    check: &mut Check<'_>,
    rule: &'static str,
    parent: &At<'_>,
    names: &[String],
    converted: bool,
) {
    for (i, gateway) in names.iter().enumerate() {
        let at = parent.item("gateways", i);
        let Some((namespace, name)) = gateway.split_once('/') else {
            check.test(
                rule,
                &at,
                host::name(gateway).map_err(|_| {
                    format!(
                        "{} is not a valid gateway: want \"mesh\", a name or namespace/name",
                        quote(gateway)
                    )
                }),
            );
            if let Some((name, rest)) = gateway.trim_end_matches('.').split_once('.') {
                let namespace = rest.split('.').next().unwrap_or_default();
                check.warn(
                    rule,
                    &at,
                    format!(
                        "{} is the old way to name a gateway: want {}",
                        quote(gateway),
                        quote(&format!("{namespace}/{name}"))
                    ),
                );
            }
            // 1.30 ignores the rest of the list, so it must pass.
            return;
        };
        if !host::is_label(namespace) || !(host::is_label(name) || (converted && !name.is_empty()))
        {
            check.error(rule, &at, format!(
                "{} is not a valid gateway: want the names of a namespace and of a gateway, each of letters, digits and dashes",
                quote(gateway)
            ));
        }
    }
}

fn hosts(check: &mut Check<'_>, spec: &VirtualService, scope: &Scope<'_>) {
    let generated = spec
        .tls
        .iter()
        .any(|route| route.r#match.iter().any(|one| !one.sni_hosts.is_empty()));
    let mut all_valid = true;
    for (i, name) in spec.hosts.iter().enumerate() {
        let at = SPEC.item("hosts", i);
        let valid =
            host::is_gateway_bound(name, generated && scope.gateways_only) || host::is_ip(name);
        if !valid {
            check.test("VS-06", &at, host::wildcard(name));
        } else if name == "*" && !scope.gateways_only {
            check.error("VS-07", &at, "\"*\" would take all traffic of the mesh: want hosts, or gateways without \"mesh\"");
        } else {
            continue;
        }
        all_valid = false;
    }
    if all_valid {
        for (first, second) in host::overlapping(&spec.hosts) {
            let name = |index: usize| quote(spec.hosts.get(index).map_or("", String::as_str));
            check.error(
                "VS-08",
                &SPEC.item("hosts", second),
                format!(
                    "{} overlaps with {}: want each host once, in one form",
                    name(second),
                    name(first)
                ),
            );
        }
    }
}
