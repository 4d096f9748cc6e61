//! Traffic for hosts that the mesh does not know.

use istio_api::{
    envoy::config::route::v3::{
        DirectResponseAction, Route, RouteAction, RouteMatch, VirtualHost, route::Action,
        route_action::ClusterSpecifier, route_match::PathSpecifier,
    },
    networking::v1alpha3::outbound_traffic_policy::Mode,
};
use pilot_model::{
    class::Client,
    host::Host,
    mesh::{Mesh, OutboundPolicy},
};
use prost_types::Duration;

use crate::name;

/// Where a class sends traffic for unknown hosts.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Fallback {
    /// Cluster for TCP connections; it may be the black hole.
    pub cluster: String,
    /// Requests are rejected.
    pub blocked: bool,
}

impl Fallback {
    /// The fallback of a class.
    pub fn of(client: &Client<'_>) -> Self {
        let egress_proxy = client.scope.sidecar.as_ref().and_then(|sidecar| {
            let policy = sidecar.spec.outbound_traffic_policy.as_ref()?;
            let proxy = policy
                .egress_proxy
                .as_ref()
                .filter(|_| policy.mode() == Mode::AllowAny)?;
            let host = Host::resolve(
                &proxy.host,
                sidecar.namespace(),
                &client.snapshot.mesh.domain,
            );
            let port = proxy.port.as_ref().map_or(0, |port| port.number);
            Some(name::outbound_cluster(port, &proxy.subset, host.as_str()))
        });
        match (client.scope.outbound_policy, egress_proxy) {
            (OutboundPolicy::AllowAny, Some(cluster)) => Self {
                cluster,
                blocked: false,
            },
            (OutboundPolicy::AllowAny, None) => Self {
                cluster: name::PASSTHROUGH_CLUSTER.to_owned(),
                blocked: false,
            },
            (OutboundPolicy::RegistryOnly, _) => Self {
                cluster: name::BLACK_HOLE_CLUSTER.to_owned(),
                blocked: true,
            },
        }
    }

    /// The virtual host for all other domains.
    pub fn virtual_host(&self, mesh: &Mesh) -> VirtualHost {
        let (name, action) = if self.blocked {
            let refused = DirectResponseAction {
                status: 502,
                ..Default::default()
            };
            (name::BLOCK_ALL, Action::DirectResponse(refused))
        } else {
            #[expect(deprecated, reason = "its replacement ends streams")]
            let onward = RouteAction {
                cluster_specifier: Some(ClusterSpecifier::Cluster(self.cluster.clone())),
                timeout: Some(Duration::default()),
                max_grpc_timeout: Some(Duration::default()),
                ..Default::default()
            };
            (name::ALLOW_ANY, Action::Route(onward))
        };
        VirtualHost {
            name: name.to_owned(),
            domains: vec!["*".to_owned()],
            routes: vec![Route {
                name: name.to_owned(),
                r#match: Some(RouteMatch {
                    path_specifier: Some(PathSpecifier::Prefix("/".to_owned())),
                    ..Default::default()
                }),
                action: Some(action),
                ..Default::default()
            }],
            include_request_attempt_count: counts_attempts(mesh),
            ..Default::default()
        }
    }
}

/// Whether requests carry the number of attempts (`x-envoy-attempt-count`).
pub fn counts_attempts(mesh: &Mesh) -> bool {
    let disabled = mesh.config.default_config.as_ref().and_then(|config| {
        config
            .proxy_headers
            .as_ref()?
            .attempt_count
            .as_ref()?
            .disabled
    });
    disabled != Some(true)
}
