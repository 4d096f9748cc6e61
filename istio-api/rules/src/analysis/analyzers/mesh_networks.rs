//! Registries that the endpoints of networks come from.

use std::collections::BTreeSet;

use super::super::catalogue::UNKNOWN_MESH_NETWORKS_SERVICE_REGISTRY;
use super::super::report::Report;
use super::super::resources::Resources;
use istio_api::mesh::v1alpha1::network::network_endpoints::Ne;

/// Registries that always exist.
const BUILT_IN: [&str; 3] = ["Mock", "Kubernetes", "External"];

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    let networks = &resources.mesh.networks;
    let Some(origin) = &networks.origin else {
        return;
    };
    let secrets = resources.secrets.values();
    let clusters: BTreeSet<&str> = secrets
        .flat_map(|secret| secret.clusters.iter().map(String::as_str))
        .collect();
    for (name, network) in &networks.spec.networks {
        for endpoints in &network.endpoints {
            let Some(Ne::FromRegistry(registry)) = &endpoints.ne else {
                continue;
            };
            if !BUILT_IN.contains(&registry.as_str()) && !clusters.contains(registry.as_str()) {
                report.add(
                    &UNKNOWN_MESH_NETWORKS_SERVICE_REGISTRY,
                    origin,
                    "data.meshNetworks",
                    [registry.clone(), name.clone()],
                );
            }
        }
    }
}
