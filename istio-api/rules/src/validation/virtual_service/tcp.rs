//! TCP routes.

use super::{Scope, destination, gateways, tls};
use crate::validation::primitives::{host, label};
use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::{L4MatchAttributes, TcpRoute};

pub(super) fn route(check: &mut Check<'_>, at: &At<'_>, route: &TcpRoute, scope: &Scope<'_>) {
    for (i, one) in route.r#match.iter().enumerate() {
        one_match(check, &at.item("match", i), one, scope);
    }
    destination::plain_route(check, at, &route.route, scope);
}

fn one_match(check: &mut Check<'_>, at: &At<'_>, one: &L4MatchAttributes, scope: &Scope<'_>) {
    tls::connection(check, at, &one.destination_subnets, one.port);
    if !one.source_subnet.is_empty() && !host::is_ip_or_prefix(&one.source_subnet) {
        check.warn("VS-106", &at.field("sourceSubnet"), format!(
            "{} is neither an IP address nor a prefix and is left out of the match: want one such as 10.0.0.0/8",
            quote(&one.source_subnet)
        ));
    }
    label::labels(check, "VS-108", at, "sourceLabels", &one.source_labels);
    gateways(check, "VS-109", at, &one.gateways, scope.converted);
}
