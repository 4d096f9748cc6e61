//! What a route does with matching requests.

use bytes::Bytes;
use istio_api::{
    any,
    envoy::{
        config::{
            core::v3::{DataSource, RuntimeFractionalPercent, data_source},
            route::v3::{
                DirectResponseAction, RedirectAction, Route, RouteAction, WeightedCluster,
                redirect_action::{
                    PathRewriteSpecifier, RedirectResponseCode, SchemeRewriteSpecifier,
                },
                route::Action,
                route_action::{
                    ClusterNotFoundResponseCode, ClusterSpecifier, HostRewriteSpecifier,
                    RequestMirrorPolicy,
                },
                route_match::PathSpecifier,
                weighted_cluster::{ClusterWeight, cluster_weight},
            },
        },
        r#type::{matcher::v3::RegexMatchAndSubstitute, v3::FractionalPercent},
    },
    networking::v1alpha3::{
        self as api, http_body,
        http_redirect::{RedirectPort, RedirectPortSelection},
    },
};
use pilot_model::mesh::Mesh;
use prost_types::Duration;

use super::{
    Context, Resolved, alpn, config_metadata, decorator, fault, fraction, hash, header, hundredths,
    matching, regex, retry,
};

const FAULT_FILTER: &str = "envoy.filters.http.fault";
const CORS_FILTER: &str = "envoy.filters.http.cors";
/// Envoy rejects a whole route configuration with a larger body.
const MAX_BODY_BYTES: usize = 1 << 20;

/// Builds the route for one match of one entry.
///
/// # Errors
/// If Envoy would reject the route: no action, no weight, a body that is too large.
pub(super) fn build(
    context: &Context<'_>,
    http: &api::HttpRoute,
    matched: Option<&api::HttpMatchRequest>,
) -> Result<Route, String> {
    let route_match = matching::route_match(matched, context.matches_path_elements());
    let mut route = Route {
        name: route_name(http, matched),
        metadata: Some(config_metadata(&context.vs.config.reference)),
        stat_prefix: matched.map(|m| m.stat_prefix.clone()).unwrap_or_default(),
        ..Default::default()
    };
    let changes = header::changes(
        http.headers.as_ref(),
        &header::Legacy {
            request_append: vec![&http.append_request_headers, &http.append_headers],
            request_remove: &http.remove_request_headers,
            response_append: &http.append_response_headers,
            response_remove: &http.remove_response_headers,
        },
    );
    route.request_headers_to_add = changes.request_add;
    route.request_headers_to_remove = changes.request_remove;
    route.response_headers_to_add = changes.response_add;
    route.response_headers_to_remove = changes.response_remove;

    let mut operation = format!("{}:{}", context.vs.config.name(), context.port);
    route.action = Some(if let Some(redirect) = &http.redirect {
        Action::Redirect(redirect_action(redirect, context.port)?)
    } else if let Some(direct) = &http.direct_response {
        Action::DirectResponse(direct_response(direct)?)
    } else {
        Action::Route(forward(
            context,
            http,
            &mut route,
            changes.host,
            &mut operation,
        )?)
    });
    operation.push_str(&match &route_match.path_specifier {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => {
            format!("{prefix}*")
        }
        Some(PathSpecifier::Path(path)) => path.clone(),
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex.clone(),
        _ => "/*".to_owned(),
    });
    route.decorator = Some(decorator(operation));
    route.r#match = Some(route_match);

    if let Some(fault) = http.fault.as_ref().and_then(fault::fault) {
        route
            .typed_per_filter_config
            .insert(FAULT_FILTER.to_owned(), any::pack(&fault));
    }
    if let Some(cors) = &http.cors_policy {
        route
            .typed_per_filter_config
            .insert(CORS_FILTER.to_owned(), any::pack(&fault::cors(cors)));
    }
    Ok(route)
}

/// The action of a service port without a VirtualService.
pub(super) fn to_service(destination: &Resolved<'_>, mesh: &Mesh) -> Action {
    let hash = destination.hash().and_then(hash::policy);
    Action::Route(RouteAction {
        cluster_specifier: Some(ClusterSpecifier::Cluster(destination.cluster.clone())),
        retry_policy: retry::policy(None, mesh, hash.is_some()),
        hash_policy: hash.into_iter().collect(),
        ..without_timeout()
    })
}

/// Disables Envoy's default timeout, which would end requests after 15 s.
#[expect(deprecated, reason = "its replacement ends streams")]
fn without_timeout() -> RouteAction {
    RouteAction {
        timeout: Some(Duration::default()),
        max_grpc_timeout: Some(Duration::default()),
        ..Default::default()
    }
}

fn route_name(http: &api::HttpRoute, matched: Option<&api::HttpMatchRequest>) -> String {
    match matched
        .map(|m| m.name.as_str())
        .filter(|name| !name.is_empty())
    {
        Some(name) if http.name.is_empty() => name.to_owned(),
        Some(name) => format!("{}.{name}", http.name),
        None => http.name.clone(),
    }
}

fn redirect_action(redirect: &api::HttpRedirect, port: u32) -> Result<RedirectAction, String> {
    let code = match redirect.redirect_code {
        0 | 301 => RedirectResponseCode::MovedPermanently,
        302 => RedirectResponseCode::Found,
        303 => RedirectResponseCode::SeeOther,
        307 => RedirectResponseCode::TemporaryRedirect,
        308 => RedirectResponseCode::PermanentRedirect,
        other => {
            return Err(format!(
                "redirectCode {other} is invalid: want 301, 302, 303, 307 or 308"
            ));
        }
    };
    let port = match redirect.redirect_port {
        Some(RedirectPort::Port(port)) => port,
        Some(RedirectPort::DerivePort(derived))
            if derived == RedirectPortSelection::FromRequestPort as i32 =>
        {
            port
        }
        _ => 0,
    };
    let implied = matches!(
        (redirect.scheme.as_str(), port),
        ("http", 80) | ("https", 443)
    );
    Ok(RedirectAction {
        host_redirect: redirect.authority.clone(),
        port_redirect: if implied { 0 } else { port },
        response_code: code.into(),
        scheme_rewrite_specifier: (!redirect.scheme.is_empty())
            .then(|| SchemeRewriteSpecifier::SchemeRedirect(redirect.scheme.clone())),
        path_rewrite_specifier: (!redirect.uri.is_empty())
            .then(|| PathRewriteSpecifier::PathRedirect(redirect.uri.clone())),
        ..Default::default()
    })
}

fn direct_response(direct: &api::HttpDirectResponse) -> Result<DirectResponseAction, String> {
    if !(200..600).contains(&direct.status) {
        return Err(format!(
            "directResponse.status {} is invalid: want 200 to 599",
            direct.status
        ));
    }
    let body = match direct
        .body
        .as_ref()
        .and_then(|body| body.specifier.as_ref())
    {
        Some(http_body::Specifier::String(text)) => Some((
            text.len(),
            data_source::Specifier::InlineString(text.clone()),
        )),
        Some(http_body::Specifier::Bytes(bytes)) => Some((
            bytes.len(),
            data_source::Specifier::InlineBytes(Bytes::clone(bytes)),
        )),
        None => None,
    };
    if let Some((length, _)) = &body
        && *length > MAX_BODY_BYTES
    {
        return Err(format!(
            "directResponse.body has {length} bytes: want at most {MAX_BODY_BYTES}"
        ));
    }
    Ok(DirectResponseAction {
        status: direct.status,
        body: body.map(|(_, specifier)| DataSource {
            specifier: Some(specifier),
            ..Default::default()
        }),
        ..Default::default()
    })
}

/// Forwards requests. Header changes and ALPN of a single destination are set on `route` itself.
fn forward(
    context: &Context<'_>,
    http: &api::HttpRoute,
    route: &mut Route,
    host_set: Option<String>,
    operation: &mut String,
) -> Result<RouteAction, String> {
    let mut action = without_timeout();
    if let Some(timeout) = http.timeout {
        action.timeout = Some(timeout);
        #[expect(deprecated, reason = "its replacement ends streams")]
        {
            action.max_grpc_timeout = Some(timeout);
        }
    }
    if context.unknown_cluster_is_error() {
        action.cluster_not_found_response_code =
            ClusterNotFoundResponseCode::InternalServerError.into();
    }
    let mut authority = None;
    if let Some(rewrite) = &http.rewrite {
        match &rewrite.uri_regex_rewrite {
            Some(by_regex) => {
                action.regex_rewrite = Some(RegexMatchAndSubstitute {
                    pattern: Some(regex(&by_regex.r#match)),
                    substitution: by_regex.rewrite.clone(),
                });
            }
            None => action.prefix_rewrite.clone_from(&rewrite.uri),
        }
        authority = Some(rewrite.authority.clone()).filter(|authority| !authority.is_empty());
    }
    authority = authority.or(host_set);
    action.request_mirror_policies = mirrors(context, http);

    let mut hashed = false;
    action.cluster_specifier = Some(match http.route.as_slice() {
        [] => return Err("it has no route, redirect or directResponse".to_owned()),
        [only] => {
            let destination = only
                .destination
                .as_ref()
                .ok_or("route[0] has no destination")?;
            let resolved = context.destinations.resolve(destination, context.port);
            if let Some(hash) = resolved.hash().and_then(hash::policy) {
                action.hash_policy.push(hash);
                hashed = true;
            }
            if let Some(announcement) = resolved.announcement(context.is_gateway()) {
                let (filter, config) = alpn::on_route(announcement);
                route.typed_per_filter_config.insert(filter, config);
            }
            let changes = destination_changes(only);
            route.request_headers_to_add.extend(changes.request_add);
            route
                .request_headers_to_remove
                .extend(changes.request_remove);
            route.response_headers_to_add.extend(changes.response_add);
            route
                .response_headers_to_remove
                .extend(changes.response_remove);
            authority = authority.or(changes.host);
            *operation = format!("{}:{}", resolved.host, resolved.port);
            ClusterSpecifier::Cluster(resolved.cluster)
        }
        several => {
            let clusters = weighted(context, several, &mut action);
            if clusters.is_empty() {
                return Err("none of its destinations has a weight above 0".to_owned());
            }
            ClusterSpecifier::WeightedClusters(WeightedCluster {
                clusters,
                ..Default::default()
            })
        }
    });
    action.retry_policy = retry::policy(http.retries.as_ref(), context.mesh, hashed);
    action.host_rewrite_specifier = authority.map(HostRewriteSpecifier::HostRewriteLiteral);
    Ok(action)
}

fn weighted(
    context: &Context<'_>,
    destinations: &[api::HttpRouteDestination],
    action: &mut RouteAction,
) -> Vec<ClusterWeight> {
    let mut clusters = Vec::with_capacity(destinations.len());
    for entry in destinations {
        let weight = u32::try_from(entry.weight).unwrap_or(0);
        let Some(destination) = entry.destination.as_ref().filter(|_| weight > 0) else {
            continue;
        };
        let resolved = context.destinations.resolve(destination, context.port);
        if let Some(hash) = resolved.hash().and_then(hash::policy)
            && !action.hash_policy.contains(&hash)
        {
            action.hash_policy.push(hash);
        }
        let changes = destination_changes(entry);
        let mut cluster = ClusterWeight {
            weight: Some(weight),
            request_headers_to_add: changes.request_add,
            request_headers_to_remove: changes.request_remove,
            response_headers_to_add: changes.response_add,
            response_headers_to_remove: changes.response_remove,
            host_rewrite_specifier: changes
                .host
                .map(cluster_weight::HostRewriteSpecifier::HostRewriteLiteral),
            ..Default::default()
        };
        if let Some(announcement) = resolved.announcement(context.is_gateway()) {
            let (filter, config) = alpn::on_route(announcement);
            cluster.typed_per_filter_config.insert(filter, config);
        }
        cluster.name = resolved.cluster;
        clusters.push(cluster);
    }
    clusters
}

fn destination_changes(entry: &api::HttpRouteDestination) -> header::Changes {
    header::changes(
        entry.headers.as_ref(),
        &header::Legacy {
            request_append: vec![&entry.append_request_headers],
            request_remove: &entry.remove_request_headers,
            response_append: &entry.append_response_headers,
            response_remove: &entry.remove_response_headers,
        },
    )
}

fn mirrors(context: &Context<'_>, http: &api::HttpRoute) -> Vec<RequestMirrorPolicy> {
    let share = match (&http.mirror_percentage, http.mirror_percent) {
        (Some(percent), _) => fraction(percent.value),
        (None, Some(percent)) => hundredths(percent.min(100)),
        (None, None) => hundredths(100),
    };
    let single = http.mirror.as_ref().map(|destination| (destination, share));
    let several = http.mirrors.iter().filter_map(|mirror| {
        let share = mirror
            .percentage
            .as_ref()
            .map_or_else(|| hundredths(100), |percent| fraction(percent.value));
        mirror
            .destination
            .as_ref()
            .map(|destination| (destination, share))
    });
    single
        .into_iter()
        .chain(several)
        .filter(|(_, share): &(_, FractionalPercent)| share.numerator > 0)
        .map(|(destination, share)| RequestMirrorPolicy {
            cluster: context
                .destinations
                .resolve(destination, context.port)
                .cluster,
            runtime_fraction: Some(RuntimeFractionalPercent {
                default_value: Some(share),
                ..Default::default()
            }),
            trace_sampled: Some(false),
            disable_shadow_host_suffix_append: true,
            ..Default::default()
        })
        .collect()
}
