//! Rules for names and annotations of every kind.

use super::primitives::host;
use super::report::{At, Check, quote};
use istio_api::collections::Collection;

pub(super) const METADATA: At<'static> = At::root("metadata");

/// Marks a policy that is only a dry run.
pub(super) const DRY_RUN: &str = "istio.io/dry-run";

const GATEWAY_SEMANTICS: &str = "internal.istio.io/gateway-semantics";
const ROUTE_SEMANTICS: &str = "internal.istio.io/route-semantics";

fn is_set_to_gateway(check: &Check<'_>, annotation: &str) -> bool {
    check.meta.annotations.get(annotation).map(String::as_str) == Some("gateway")
}

/// Whether a Gateway was made from one of the Gateway API.
pub(super) fn is_converted_gateway(check: &Check<'_>) -> bool {
    is_set_to_gateway(check, GATEWAY_SEMANTICS)
}

/// Whether a VirtualService was made from a route of the Gateway API.
pub(super) fn is_converted_route(check: &Check<'_>) -> bool {
    is_set_to_gateway(check, ROUTE_SEMANTICS)
}

pub(super) fn validate(check: &mut Check<'_>, collection: &Collection) {
    let meta = check.meta;
    if meta.annotations.contains_key(DRY_RUN) && collection.kind != "AuthorizationPolicy" {
        let at = METADATA.entry("annotations", DRY_RUN);
        check.error("META-01", &at, format!(
            "a {} does not support a dry run: want this annotation on an AuthorizationPolicy only",
            collection.kind
        ));
    }
    let internal = [
        (
            "META-04",
            "internal.istio.io/webhook-always-reject",
            "an object with this annotation is always refused: leave it out",
        ),
        (
            "META-05",
            "internal.istio.io/parent-namespace",
            "this annotation is reserved for the mesh itself: leave it out",
        ),
        (
            "META-06",
            "internal.istio.io/parents",
            "this annotation is reserved for the mesh itself: leave it out",
        ),
    ];
    for (rule, annotation, message) in internal {
        check.refuse(
            meta.annotations.contains_key(annotation),
            rule,
            &METADATA.entry("annotations", annotation),
            message,
        );
    }
    if collection.kind == "Gateway" && !host::is_label(&meta.name) && !is_converted_gateway(check) {
        check.error("META-08", &METADATA.field("name"), format!(
            "{} is not a valid Gateway name: want 1 to 63 letters, digits and dashes, without dots",
            quote(&meta.name)
        ));
    }
}
