//! Rules for Sidecar.

mod egress;
mod ingress;

use super::SPEC;
use super::destination_rule::pool;
use super::primitives::{host, label, protocol};
use super::report::{At, Check};
use super::virtual_service::{DestinationRules, destination};
use istio_api::networking::v1alpha3::outbound_traffic_policy::Mode;
use istio_api::networking::v1alpha3::{OutboundTrafficPolicy, Sidecar, SidecarPort};

const UNIX: &str = "unix://";

pub(super) fn validate(check: &mut Check<'_>, spec: &Sidecar) {
    if let Some(selector) = &spec.workload_selector {
        let at = SPEC.field("workloadSelector");
        label::selector(check, "SC-01", &at, "labels", &selector.labels);
    }
    check.refuse(
        spec.egress.is_empty()
            && spec.ingress.is_empty()
            && spec.outbound_traffic_policy.is_none()
            && spec.inbound_connection_pool.is_none(),
        "SC-02",
        &SPEC,
        "the Sidecar is empty: want at least one of egress, ingress, outboundTrafficPolicy and inboundConnectionPool",
    );
    ingress::validate(check, &spec.ingress);
    egress::validate(check, &spec.egress);
    if let Some(settings) = &spec.inbound_connection_pool {
        pool::validate(check, &SPEC.field("inboundConnectionPool"), settings);
    }
    if let Some(policy) = &spec.outbound_traffic_policy {
        outbound(check, &SPEC.field("outboundTrafficPolicy"), policy);
    }
}

/// Rules for ports of both directions.
fn port(check: &mut Check<'_>, at: &At<'_>, port: &SidecarPort) {
    check.refuse(
        port.target_port != 0,
        "SC-05",
        &at.field("targetPort"),
        "targetPort has no effect in a Sidecar: leave it out",
    );
    if !port.name.is_empty() {
        check.test("SC-06", &at.field("name"), host::label(&port.name));
    }
    check.test(
        "SC-07",
        &at.field("protocol"),
        protocol::known_or_empty(&port.protocol),
    );
}

fn outbound(check: &mut Check<'_>, at: &At<'_>, policy: &OutboundTrafficPolicy) {
    let Some(proxy) = &policy.egress_proxy else {
        return;
    };
    let at_proxy = at.field("egressProxy");
    check.refuse(
        policy.mode() != Mode::AllowAny,
        "SC-32",
        &at.field("mode"),
        "this mode blocks unknown destinations, so egressProxy is unused: want mode ALLOW_ANY",
    );
    if host::is_name(&proxy.host) {
        destination(
            check,
            DestinationRules::all("SC-35"),
            &at_proxy,
            proxy,
            false,
        );
    } else {
        check.test("SC-33", &at_proxy.field("host"), host::name(&proxy.host));
    }
    check.refuse(
        proxy.port.is_none(),
        "SC-34",
        &at_proxy.field("port"),
        "there is no port: want port.number",
    );
}
