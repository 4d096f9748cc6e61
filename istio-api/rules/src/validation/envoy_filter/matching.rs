//! The match of a patch: which object it is for.

use crate::validation::report::{At, Check, quote};
use istio_api::networking::v1alpha3::envoy_filter::envoy_config_object_match::ObjectTypes;
use istio_api::networking::v1alpha3::envoy_filter::listener_match::FilterMatch;
use istio_api::networking::v1alpha3::envoy_filter::{ApplyTo, EnvoyConfigObjectMatch};

const HTTP_MANAGER: &str = "envoy.filters.network.http_connection_manager";
const OLD_HTTP_MANAGER: &str = "envoy.http_connection_manager";

pub(super) fn validate(
    check: &mut Check<'_>,
    at: &At<'_>,
    apply_to: ApplyTo,
    condition: &EnvoyConfigObjectMatch,
) {
    let Some(object) = &condition.object_types else {
        return;
    };
    let field = match object {
        ObjectTypes::Listener(_) => "listener",
        ObjectTypes::RouteConfiguration(_) => "routeConfiguration",
        ObjectTypes::Cluster(_) => "cluster",
        ObjectTypes::Waypoint(_) => "waypoint",
    };
    let (rule, wanted) = match apply_to {
        ApplyTo::Listener | ApplyTo::FilterChain | ApplyTo::NetworkFilter | ApplyTo::HttpFilter => {
            ("EF-10", "listener")
        }
        ApplyTo::RouteConfiguration | ApplyTo::VirtualHost | ApplyTo::HttpRoute => {
            ("EF-17", "routeConfiguration")
        }
        ApplyTo::Cluster => ("EF-18", "cluster"),
        _ => return,
    };
    if field != wanted {
        check.error(
            rule,
            &at.field(field),
            format!(
                "a match on {field} does not go with applyTo {}: want {wanted}",
                apply_to.as_str_name()
            ),
        );
    }
    if let ObjectTypes::Listener(listener) = object
        && wanted == "listener"
        && let Some(chain) = &listener.filter_chain
        && let Some(one) = &chain.filter
    {
        let at = at.field("listener");
        let at = at.field("filterChain");
        filter(check, &at.field("filter"), apply_to, one);
    }
}

fn filter(check: &mut Check<'_>, at: &At<'_>, apply_to: ApplyTo, filter: &FilterMatch) {
    if matches!(apply_to, ApplyTo::Listener | ApplyTo::FilterChain) {
        check.warn("EF-11", at, format!(
            "a match on a filter is ignored with applyTo {}, so this has no effect: want NETWORK_FILTER or HTTP_FILTER, or leave it out",
            apply_to.as_str_name()
        ));
    }
    let at_name = at.field("name");
    check.refuse(
        filter.name.is_empty(),
        "EF-12",
        &at_name,
        "the filter has no name: want one such as \"envoy.filters.network.tcp_proxy\"",
    );
    renamed(check, &at_name, &filter.name);
    let Some(inner) = &filter.sub_filter else {
        return;
    };
    let at_inner = at.field("subFilter");
    check.refuse(
        apply_to != ApplyTo::HttpFilter,
        "EF-13",
        &at_inner,
        "only HTTP filters are inside another filter: want applyTo: HTTP_FILTER, or leave it out",
    );
    check.refuse(
        !matches!(filter.name.as_str(), "" | HTTP_MANAGER | OLD_HTTP_MANAGER),
        "EF-14",
        &at_name,
        "this filter contains no others: want \"envoy.filters.network.http_connection_manager\"",
    );
    let at_name = at_inner.field("name");
    check.refuse(
        inner.name.is_empty(),
        "EF-15",
        &at_name,
        "the inner filter has no name: want one such as \"envoy.filters.http.router\"",
    );
    renamed(check, &at_name, &inner.name);
}

/// The name that Envoy uses today for the filter of this name.
pub(crate) fn current_name(name: &str) -> &str {
    let row = RENAMED.binary_search_by_key(&name, |(old, _)| old);
    row.ok()
        .and_then(|row| RENAMED.get(row))
        .map_or(name, |(_, new)| new)
}

fn renamed(check: &mut Check<'_>, at: &At<'_>, name: &str) {
    let new = current_name(name);
    if new != name {
        check.warn(
            "EF-16",
            at,
            format!("{} is an old name: want {}", quote(name), quote(new)),
        );
    }
}

/// Filters that Envoy gave new names, ordered by the old ones.
const RENAMED: [(&str, &str); 27] = [
    ("envoy.buffer", "envoy.filters.http.buffer"),
    (
        "envoy.client_ssl_auth",
        "envoy.filters.network.client_ssl_auth",
    ),
    ("envoy.cors", "envoy.filters.http.cors"),
    ("envoy.csrf", "envoy.filters.http.csrf"),
    ("envoy.ext_authz", "envoy.filters.http.ext_authz"),
    ("envoy.fault", "envoy.filters.http.fault"),
    (
        "envoy.grpc_http1_bridge",
        "envoy.filters.http.grpc_http1_bridge",
    ),
    (
        "envoy.grpc_json_transcoder",
        "envoy.filters.http.grpc_json_transcoder",
    ),
    ("envoy.grpc_web", "envoy.filters.http.grpc_web"),
    ("envoy.gzip", "envoy.filters.http.gzip"),
    ("envoy.health_check", "envoy.filters.http.health_check"),
    ("envoy.http_connection_manager", HTTP_MANAGER),
    ("envoy.http_dynamo_filter", "envoy.filters.http.dynamo"),
    ("envoy.ip_tagging", "envoy.filters.http.ip_tagging"),
    (
        "envoy.listener.http_inspector",
        "envoy.filters.listener.http_inspector",
    ),
    (
        "envoy.listener.original_dst",
        "envoy.filters.listener.original_dst",
    ),
    (
        "envoy.listener.original_src",
        "envoy.filters.listener.original_src",
    ),
    (
        "envoy.listener.proxy_protocol",
        "envoy.filters.listener.proxy_protocol",
    ),
    (
        "envoy.listener.tls_inspector",
        "envoy.filters.listener.tls_inspector",
    ),
    ("envoy.lua", "envoy.filters.http.lua"),
    ("envoy.mongo_proxy", "envoy.filters.network.mongo_proxy"),
    ("envoy.rate_limit", "envoy.filters.http.ratelimit"),
    ("envoy.ratelimit", "envoy.filters.network.ratelimit"),
    ("envoy.redis_proxy", "envoy.filters.network.redis_proxy"),
    ("envoy.router", "envoy.filters.http.router"),
    ("envoy.squash", "envoy.filters.http.squash"),
    ("envoy.tcp_proxy", "envoy.filters.network.tcp_proxy"),
];

#[cfg(test)]
mod tests {
    #[test]
    fn old_names_are_in_order() {
        assert!(super::RENAMED.is_sorted_by_key(|(old, _)| old));
    }
}
