//! HTTP routes of a VirtualService, for sidecars and gateways.

use istio_api::{
    envoy::{
        config::{
            core::v3::Metadata,
            route::v3::{Decorator, Route, RouteMatch, route_match::PathSpecifier},
        },
        r#type::{
            matcher::v3::{RegexMatcher, StringMatcher, string_matcher::MatchPattern},
            v3::{FractionalPercent, fractional_percent::DenominatorType},
        },
    },
    networking::v1alpha3 as api,
};
use pilot_model::{
    config::ConfigRef,
    mesh::Mesh,
    virtual_service::{MESH_GATEWAY, VirtualService},
};
use prost_types::{Struct, Value, value::Kind};

use super::{
    destination::{Destinations, Resolved},
    source::Source,
};
use crate::{name, resource::Skipped};

mod action;
mod alpn;
mod fault;
mod hash;
mod header;
mod matching;
mod retry;

/// Annotation that names the semantics of a VirtualService converted from another kind.
const SEMANTICS: &str = "internal.istio.io/route-semantics";

const REJECTED: &str = "pilot_total_rejected_configs";

/// Everything that the routes of one VirtualService depend on.
#[derive(Clone, Copy, Debug)]
pub struct Context<'a> {
    /// The VirtualService.
    pub vs: &'a VirtualService,
    /// The gateway that the routes are for: `mesh` or `<namespace>/<name>`.
    pub gateway: &'a str,
    /// Port on which requests arrive: of the service for sidecars, of the server for gateways.
    pub port: u32,
    /// The properties of the client that the routes match on.
    pub source: Source<'a>,
    /// The services that routes refer to.
    pub destinations: &'a Destinations<'a>,
    /// The mesh settings.
    pub mesh: &'a Mesh,
}

impl Context<'_> {
    fn is_gateway(&self) -> bool {
        self.gateway != MESH_GATEWAY
    }

    /// Whether a prefix must end at a path segment (Ingress and Gateway API).
    fn matches_path_elements(&self) -> bool {
        matches!(semantics(self.vs), "ingress" | "gateway")
    }

    fn unknown_cluster_is_error(&self) -> bool {
        semantics(self.vs) == "gateway"
    }

    fn applies(&self, matched: &api::HttpMatchRequest) -> bool {
        if matched.port != 0 && matched.port != self.port {
            return false;
        }
        if !matched.gateways.is_empty() {
            return matched
                .gateways
                .iter()
                .any(|gateway| gateway == self.gateway);
        }
        self.source
            .fits(&matched.source_labels, &matched.source_namespace)
    }
}

/// The kind that `vs` was converted from; empty if it was written as a VirtualService.
pub(crate) fn semantics(vs: &VirtualService) -> &str {
    vs.config
        .annotations
        .get(SEMANTICS)
        .map_or("", String::as_str)
}

/// The routes that apply, in order; those after a catch-all are left out.
///
/// No routes mean that the VirtualService does not apply to this port.
pub fn routes(context: &Context<'_>) -> (Vec<Route>, Vec<Skipped>) {
    let mut routes = Vec::new();
    let unresolved = context.vs.unresolved.iter().map(|(key, reason)| Skipped {
        metric: REJECTED,
        reason: format!(
            "delegate {}/{}: {reason}; its routes are left out",
            key.namespace, key.name
        ),
        source: Some(context.vs.config.reference.clone()),
    });
    let mut skipped: Vec<Skipped> = unresolved.collect();
    for (index, http) in context.vs.config.spec.http.iter().enumerate() {
        let matches: Vec<Option<&api::HttpMatchRequest>> = if http.r#match.is_empty() {
            vec![None]
        } else {
            http.r#match
                .iter()
                .filter(|m| context.applies(m))
                .map(Some)
                .collect()
        };
        for matched in matches {
            let route = match action::build(context, http, matched) {
                Ok(route) => route,
                Err(reason) => {
                    skipped.push(Skipped {
                        metric: REJECTED,
                        reason: format!("http[{index}]: {reason}; the route is left out"),
                        source: Some(context.vs.config.reference.clone()),
                    });
                    continue;
                }
            };
            let last = route.r#match.as_ref().is_some_and(is_catch_all);
            routes.push(route);
            if last {
                return (routes, skipped);
            }
        }
    }
    (routes, skipped)
}

/// The route of a service port without a VirtualService.
pub fn default_route(destination: &Resolved<'_>, mesh: &Mesh) -> Route {
    let mut route = Route {
        name: name::DEFAULT_ROUTE.to_owned(),
        r#match: Some(RouteMatch {
            path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
            ..Default::default()
        }),
        decorator: Some(decorator(format!(
            "{}:{}/*",
            destination.host, destination.port
        ))),
        ..Default::default()
    };
    if let Some(announcement) = destination.announcement(false) {
        let (filter, config) = alpn::on_route(announcement);
        route.typed_per_filter_config.insert(filter, config);
    }
    route.action = Some(action::to_service(destination, mesh));
    route
}

/// Metadata by which tools find the configuration object of a resource.
pub fn config_metadata(config: &ConfigRef) -> Metadata {
    let path = Value {
        kind: Some(Kind::StringValue(name::config_path(config))),
    };
    let fields = Struct {
        fields: [("config".to_owned(), path)].into(),
    };
    Metadata {
        filter_metadata: [("istio".to_owned(), fields)].into(),
        ..Default::default()
    }
}

fn decorator(operation: String) -> Decorator {
    Decorator {
        operation,
        ..Default::default()
    }
}

/// Whether this route matches every request.
pub(crate) fn is_catch_all(matched: &RouteMatch) -> bool {
    let any_path = match &matched.path_specifier {
        Some(PathSpecifier::Prefix(prefix) | PathSpecifier::PathSeparatedPrefix(prefix)) => {
            prefix == "/"
        }
        Some(PathSpecifier::SafeRegex(regex)) => regex.regex == ".*",
        _ => false,
    };
    any_path
        && matched.headers.is_empty()
        && matched.query_parameters.is_empty()
        && matched.dynamic_metadata.is_empty()
}

fn regex(pattern: &str) -> RegexMatcher {
    RegexMatcher {
        regex: pattern.to_owned(),
        ..Default::default()
    }
}

fn string_matcher(pattern: MatchPattern) -> StringMatcher {
    StringMatcher {
        match_pattern: Some(pattern),
        ..Default::default()
    }
}

/// `percent` (0–100) in millionths.
fn fraction(percent: f64) -> FractionalPercent {
    let millionths = (percent * 10_000.0).round().clamp(0.0, 1_000_000.0);
    #[expect(
        clippy::cast_possible_truncation,
        clippy::cast_sign_loss,
        reason = "clamped to what fits"
    )]
    let numerator = millionths as u32;
    FractionalPercent {
        numerator,
        denominator: DenominatorType::Million.into(),
    }
}

/// `percent` in hundredths.
fn hundredths(percent: u32) -> FractionalPercent {
    FractionalPercent {
        numerator: percent,
        denominator: DenominatorType::Hundred.into(),
    }
}
