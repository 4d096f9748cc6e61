//! Routes by SNI.

use super::{Scope, destination, gateways};
use crate::validation::primitives::{host, label, number};
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::{TlsMatchAttributes, TlsRoute};

pub(super) fn route(check: &mut Check<'_>, at: &At<'_>, route: &TlsRoute, scope: &Scope<'_>) {
    check.refuse(
        route.r#match.is_empty(),
        "VS-100",
        &at.field("match"),
        "there is no match: want at least one with sniHosts",
    );
    for (i, one) in route.r#match.iter().enumerate() {
        one_match(check, &at.item("match", i), one, scope);
    }
    destination::plain_route(check, at, &route.route, scope);
}

fn one_match(check: &mut Check<'_>, at: &At<'_>, one: &TlsMatchAttributes, scope: &Scope<'_>) {
    check.refuse(
        one.sni_hosts.is_empty(),
        "VS-102",
        &at.field("sniHosts"),
        "there is no SNI to match: want at least one of the hosts",
    );
    for (i, name) in one.sni_hosts.iter().enumerate() {
        sni(check, &at.item("sniHosts", i), name, scope);
    }
    connection(check, at, &one.destination_subnets, one.port);
    label::labels(check, "VS-108", at, "sourceLabels", &one.source_labels);
    gateways(check, "VS-109", at, &one.gateways, scope.converted);
}

fn sni(check: &mut Check<'_>, at: &At<'_>, name: &str, scope: &Scope<'_>) {
    if !host::is_gateway_bound(name, scope.gateways_only) {
        if host::is_ip(name) {
            check.warn(
                "VS-103",
                at,
                format!(
                    "{} is an address, which clients do not send as SNI: want a host name",
                    quote(name)
                ),
            );
        } else {
            check.test("VS-103", at, host::wildcard(name));
        }
    } else if !scope
        .hosts
        .iter()
        .any(|other| host::is_covered(name, other))
    {
        check.error("VS-104", at, format!(
            "{} is not among the hosts of this object: want one of them, or a host that a wildcard among them covers",
            quote(name)
        ));
    }
}

/// Rules that TLS and TCP matches share.
pub(super) fn connection(check: &mut Check<'_>, at: &At<'_>, subnets: &[String], port: u32) {
    for (i, subnet) in subnets.iter().enumerate() {
        check.test(
            "VS-105",
            &at.item("destinationSubnets", i),
            host::ip_or_prefix(subnet),
        );
    }
    if port != 0 {
        check.test("VS-107", &at.field("port"), number::port(port));
    }
}
