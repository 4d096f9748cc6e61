//! The analyzers: one file per subject, one row of [`ANALYZERS`] each.

mod annotations;
mod application_uid;
mod authorization;
mod blocked_addresses;
mod certificate;
mod condition;
mod deprecation;
mod destination;
mod envoy_filter;
mod gateway;
mod injection;
mod mesh_networks;
mod schema;
mod service_entry;
mod service_ports;
mod subset;
mod virtual_service;
mod webhook;
mod workload_selector;

use super::report::Report;
use super::resources::Resources;

/// What an analyzer does.
#[derive(Debug, Clone, Copy)]
pub(super) enum Run {
    /// May look at everything.
    All(fn(&Resources, &mut Report)),
    /// Validates each object of a kind.
    Kind(&'static str),
}

/// An analyzer.
#[derive(Debug)]
pub struct Analyzer {
    /// Name, as in Istio 1.30.
    pub name: &'static str,
    /// Kinds that it needs.
    pub inputs: &'static [&'static str],
    pub(super) run: Run,
}

impl Analyzer {
    const fn new(
        name: &'static str,
        inputs: &'static [&'static str],
        run: fn(&Resources, &mut Report),
    ) -> Self {
        Self {
            name,
            inputs,
            run: Run::All(run),
        }
    }

    pub(super) fn run(&self, resources: &Resources, report: &mut Report) {
        match self.run {
            Run::All(run) => run(resources, report),
            Run::Kind(kind) => schema::objects(kind, resources, report),
        }
    }
}

macro_rules! table {
    ([$($analyzer:expr),* $(,)?], [$($kind:literal),* $(,)?]) => {
        /// All of them, in the order in which they run.
        pub static ANALYZERS: &[Analyzer] = &[
            $($analyzer,)*
            $(Analyzer {
                name: concat!("schema.ValidationAnalyzer.", $kind),
                inputs: &[$kind],
                run: Run::Kind($kind),
            },)*
        ];
    };
}

table! {
    [
        Analyzer::new(
            "annotations.K8sAnalyzer",
            &["Namespace", "Service", "Pod", "Deployment"],
            annotations::analyze,
        ),
        Analyzer::new(
            "applicationUID.Analyzer",
            &["Pod", "Deployment"],
            application_uid::analyze,
        ),
        Analyzer::new(
            "auth.AuthorizationPoliciesAnalyzer",
            &["MeshConfig", "AuthorizationPolicy", "Namespace", "Pod"],
            authorization::analyze,
        ),
        Analyzer::new(
            "authn.BlockedCIDRsAnalyzer",
            &["RequestAuthentication", "Deployment"],
            blocked_addresses::analyze,
        ),
        Analyzer::new(
            "conditions.ConditionAnalyzer",
            &["Service", "ServiceEntry", "WorkloadEntry", "AuthorizationPolicy"],
            condition::analyze,
        ),
        Analyzer::new(
            "deployment.MultiServiceAnalyzer",
            &["Service", "Deployment", "Namespace"],
            service_ports::of_deployments,
        ),
        Analyzer::new(
            "deprecation.DeprecationAnalyzer",
            &["VirtualService", "Sidecar"],
            deprecation::analyze,
        ),
        Analyzer::new(
            "destinationrule.CaCertificateAnalyzer",
            &["DestinationRule"],
            certificate::analyze,
        ),
        Analyzer::new(
            "destinationrule.SubsetSelectPodAnalyzer",
            &["DestinationRule", "Pod", "Service", "ServiceEntry", "Node"],
            subset::of_rules,
        ),
        Analyzer::new(
            "envoyfilter.EnvoyPatchAnalyzer",
            &["EnvoyFilter"],
            envoy_filter::analyze,
        ),
        Analyzer::new(
            "gateway.CertificateAnalyzer",
            &["Gateway"],
            gateway::certificates,
        ),
        Analyzer::new(
            "gateway.ConflictingGatewayAnalyzer",
            &["Gateway", "Pod"],
            gateway::conflicts,
        ),
        Analyzer::new(
            "gateway.IngressGatewayPortAnalyzer",
            &["Gateway", "Pod", "Service"],
            gateway::ports,
        ),
        Analyzer::new(
            "gateway.SecretAnalyzer",
            &["Gateway", "Pod", "Secret"],
            gateway::secrets,
        ),
        Analyzer::new(
            "injection.Analyzer",
            &["Namespace", "Pod", "ConfigMap"],
            injection::labels,
        ),
        Analyzer::new(
            "injection.ImageAnalyzer",
            &["Namespace", "Pod", "ConfigMap", "MeshConfig", "ProxyConfig"],
            injection::images,
        ),
        Analyzer::new(
            "injection.ImageAutoAnalyzer",
            &["Namespace", "Pod", "Deployment", "MutatingWebhookConfiguration"],
            injection::automatic_images,
        ),
        Analyzer::new(
            "meshnetworks.MeshNetworksAnalyzer",
            &["MeshNetworks", "Secret"],
            mesh_networks::analyze,
        ),
        Analyzer::new(
            "service.PortNameAnalyzer",
            &["Service"],
            service_ports::names,
        ),
        Analyzer::new(
            "serviceentry.Analyzer",
            &["ServiceEntry", "MeshConfig"],
            service_entry::analyze,
        ),
        Analyzer::new(
            "sidecar.SelectorAnalyzer",
            &["Sidecar", "Pod", "Namespace"],
            workload_selector::of_sidecars,
        ),
        Analyzer::new(
            "telemetry.DefaultSelectorAnalyzer",
            &["Telemetry"],
            workload_selector::of_default_telemetries,
        ),
        Analyzer::new(
            "telemetry.ProviderAnalyzer",
            &["Telemetry", "MeshConfig"],
            workload_selector::telemetry_providers,
        ),
        Analyzer::new(
            "telemetry.SelectorAnalyzer",
            &["Telemetry", "Pod"],
            workload_selector::of_telemetries,
        ),
        Analyzer::new(
            "virtualservice.ConflictingMeshGatewayHostsAnalyzer",
            &["VirtualService"],
            virtual_service::mesh_hosts,
        ),
        Analyzer::new(
            "virtualservice.DestinationHostAnalyzer",
            &["ServiceEntry", "VirtualService", "Service"],
            destination::analyze,
        ),
        Analyzer::new(
            "virtualservice.DestinationRuleAnalyzer",
            &["VirtualService", "DestinationRule"],
            subset::of_routes,
        ),
        Analyzer::new(
            "virtualservice.GatewayAnalyzer",
            &["Gateway", "VirtualService"],
            virtual_service::gateways,
        ),
        Analyzer::new(
            "virtualservice.JWTClaimRouteAnalyzer",
            &["VirtualService", "RequestAuthentication", "Gateway", "Pod"],
            virtual_service::claims,
        ),
        Analyzer::new(
            "webhook.Analyzer",
            &["MutatingWebhookConfiguration", "Service"],
            webhook::analyze,
        ),
        Analyzer::new(
            "schema.ValidationAnalyzer.MeshConfig",
            &["MeshConfig"],
            schema::mesh_config,
        ),
        Analyzer::new(
            "schema.ValidationAnalyzer.MeshNetworks",
            &["MeshNetworks"],
            schema::mesh_networks,
        ),
    ],
    [
        "AuthorizationPolicy",
        "ClusterRbacConfig",
        "DestinationRule",
        "EnvoyFilter",
        "Gateway",
        "MeshPolicy",
        "PeerAuthentication",
        "Policy",
        "ProxyConfig",
        "RbacConfig",
        "RequestAuthentication",
        "ServiceEntry",
        "ServiceRole",
        "ServiceRoleBinding",
        "Sidecar",
        "Telemetry",
        "TrafficExtension",
        "VirtualService",
        "WasmPlugin",
        "WorkloadEntry",
        "WorkloadGroup",
    ]
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::istio_kinds;
    use super::*;

    #[test]
    fn names_are_unique_and_every_kind_is_validated() {
        let names: BTreeSet<&str> = ANALYZERS.iter().map(|one| one.name).collect();
        assert_eq!(names.len(), ANALYZERS.len());
        for row in istio_kinds() {
            let name = format!("schema.ValidationAnalyzer.{}", row.kind);
            assert!(names.contains(name.as_str()), "{name}");
        }
    }
}
