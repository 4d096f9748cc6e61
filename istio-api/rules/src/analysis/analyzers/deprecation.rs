//! Deprecated fields and kinds.

use std::sync::Arc;

use serde_json::Value;

use super::super::catalogue::DEPRECATED;
use super::super::origin::Origin;
use super::super::report::Report;
use super::super::resources::{Resource, Resources};
use istio_api::networking::v1alpha3::load_balancer_settings::{LbPolicy, SimpleLb};
use istio_api::networking::v1alpha3::{HttpRoute, LoadBalancerSettings, VirtualService};

/// Settings of the mesh that no longer have an effect.
const MESH: [&str; 10] = [
    "mixerCheckServer",
    "mixerReportServer",
    "mixerAddress",
    "sdsUdsPath",
    "enableSdsTokenMount",
    "sdsUseK8sSaJwt",
    "authPolicy",
    "rdsRefreshDelay",
    "sdsRefreshDelay",
    "sidecarToTelemetrySessionAffinity",
];
/// The same for the settings of proxies.
const PROXY: [&str; 2] = ["parentShutdownDuration", "connectTimeout"];

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    for service in &resources.virtual_services {
        virtual_service(service, report);
    }
    for sidecar in &resources.sidecars {
        let policy = sidecar.spec.outbound_traffic_policy.as_ref();
        if policy.is_some_and(|policy| policy.egress_proxy.is_some()) {
            let field = "spec.outboundTrafficPolicy.egressProxy";
            tell(&sidecar.head.origin, field, "it is ignored", report);
        }
    }
    for rule in &resources.destination_rules {
        let spec = &rule.spec;
        let subsets = spec.subsets.iter().enumerate().filter_map(|(i, subset)| {
            let policy = subset.traffic_policy.as_ref()?;
            Some((format!("spec.subsets[{i}].trafficPolicy"), policy))
        });
        let own = spec.traffic_policy.as_ref();
        let own = own.map(|policy| ("spec.trafficPolicy".to_owned(), policy));
        for (at, policy) in own.into_iter().chain(subsets) {
            let origin = &rule.head.origin;
            balancer(origin, &at, policy.load_balancer.as_ref(), report);
            for (i, port) in policy.port_level_settings.iter().enumerate() {
                let at = format!("{at}.portLevelSettings[{i}]");
                balancer(origin, &at, port.load_balancer.as_ref(), report);
            }
        }
    }
    for filter in &resources.envoy_filters {
        let origin = &filter.head.origin;
        if !filter.spec.workload_labels.is_empty() {
            let instead = "use workloadSelector.labels";
            tell(origin, "spec.workloadLabels", instead, report);
        }
        if !filter.spec.filters.is_empty() {
            tell(origin, "spec.filters", "use configPatches", report);
        }
    }
    for object in resources.of("RbacConfig") {
        let parameters = ["kind RbacConfig: use ClusterRbacConfig".to_owned()];
        report.add(&DEPRECATED, &object.head.origin, "kind", parameters);
    }
    mesh(resources, report);
}

fn tell(origin: &Arc<Origin>, field: &str, instead: &str, report: &mut Report) {
    let parameters = [format!("{field}: {instead}")];
    report.add(&DEPRECATED, origin, field, parameters);
}

fn balancer(
    origin: &Arc<Origin>,
    at: &str,
    settings: Option<&LoadBalancerSettings>,
    report: &mut Report,
) {
    let policy = settings.and_then(|settings| settings.lb_policy.as_ref());
    if let Some(LbPolicy::Simple(simple)) = policy
        && SimpleLb::try_from(*simple) == Ok(SimpleLb::LeastConn)
    {
        let field = format!("{at}.loadBalancer.simple");
        tell(origin, &field, "use LEAST_REQUEST", report);
    }
}

fn virtual_service(service: &Resource<VirtualService>, report: &mut Report) {
    let origin = &service.head.origin;
    for (i, http) in service.spec.http.iter().enumerate() {
        for (member, instead) in of_route(http) {
            tell(origin, &format!("spec.http[{i}].{member}"), instead, report);
        }
    }
    for (i, tcp) in service.spec.tcp.iter().enumerate() {
        for (j, one) in tcp.r#match.iter().enumerate() {
            if !one.source_subnet.is_empty() {
                let field = format!("spec.tcp[{i}].match[{j}].sourceSubnet");
                tell(origin, &field, "Istio ignores it now", report);
            }
        }
    }
}

/// Members of a route that only 1.1 had, with their replacements.
fn of_route(http: &HttpRoute) -> Vec<(String, &'static str)> {
    const PERCENTAGE: &str = "use percentage";
    let mut found = Vec::new();
    let mut check = |is_used: bool, member: String, instead| {
        if is_used {
            found.push((member, instead));
        }
    };
    let fault = http.fault.as_ref();
    let delay = fault.and_then(|fault| fault.delay.as_ref());
    let abort = fault.and_then(|fault| fault.abort.as_ref());
    #[allow(deprecated, reason = "reporting deprecated fields is the purpose")]
    {
        check(
            delay.is_some_and(|delay| delay.percent > 0),
            "fault.delay.percent".to_owned(),
            PERCENTAGE,
        );
        check(
            abort.is_some_and(|abort| abort.percent > 0),
            "fault.abort.percent".to_owned(),
            PERCENTAGE,
        );
        check(
            http.websocket_upgrade,
            "websocketUpgrade".to_owned(),
            "upgrades are always on",
        );
        check(
            !http.append_headers.is_empty(),
            "appendHeaders".to_owned(),
            "use headers.request.add",
        );
        let routes = http.route.iter().enumerate();
        let mut levels = vec![(
            String::new(),
            http.append_request_headers.is_empty(),
            http.remove_request_headers.is_empty(),
            http.append_response_headers.is_empty(),
            http.remove_response_headers.is_empty(),
        )];
        levels.extend(routes.map(|(j, route)| {
            (
                format!("route[{j}]."),
                route.append_request_headers.is_empty(),
                route.remove_request_headers.is_empty(),
                route.append_response_headers.is_empty(),
                route.remove_response_headers.is_empty(),
            )
        }));
        for (at, add_request, remove_request, add_response, remove_response) in levels {
            check(
                !add_request,
                format!("{at}appendRequestHeaders"),
                "use headers.request.add",
            );
            check(
                !remove_request,
                format!("{at}removeRequestHeaders"),
                "use headers.request.remove",
            );
            check(
                !add_response,
                format!("{at}appendResponseHeaders"),
                "use headers.response.add",
            );
            check(
                !remove_response,
                format!("{at}removeResponseHeaders"),
                "use headers.response.remove",
            );
        }
    }
    found
}

fn mesh(resources: &Resources, report: &mut Report) {
    let settings = &resources.mesh.config;
    let Some(origin) = &settings.origin else {
        return;
    };
    let proxy = member(&settings.value, "defaultConfig").unwrap_or(&Value::Null);
    let levels = [
        ("", &settings.value, MESH.as_slice()),
        ("defaultConfig.", proxy, PROXY.as_slice()),
    ];
    for (at, value, names) in levels {
        for name in names {
            if member(value, name).is_some_and(|value| !value.is_null()) {
                tell(origin, &format!("{at}{name}"), "it is ignored", report);
            }
        }
    }
}

/// A member in either of its spellings.
fn member<'a>(value: &'a Value, name: &str) -> Option<&'a Value> {
    let mut snake = String::new();
    for c in name.chars() {
        if c.is_ascii_uppercase() {
            snake.push('_');
        }
        snake.push(c.to_ascii_lowercase());
    }
    value.get(name).or_else(|| value.get(&snake))
}
