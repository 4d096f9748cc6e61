//! JWKS are fetched from any address that a RequestAuthentication names, unless it is blocked.

use super::super::catalogue::JWKS_URI_FETCH_UNRESTRICTED;
use super::super::report::Report;
use super::super::resources::Resources;

/// The most names that are listed.
const LISTED: usize = 5;

pub(super) fn analyze(resources: &Resources, report: &mut Report) {
    let all = &resources.request_authentications;
    if all.is_empty() {
        return;
    }
    for deployment in &resources.deployments {
        let label = |key: &str| deployment.head.labels.get(key).map(String::as_str);
        let is_ours = label("istio") == Some("pilot") || label("app") == Some("istiod");
        let mut containers = deployment.spec.template.containers.iter();
        if is_ours && !containers.any(|container| container.blocks_addresses) {
            let names: Vec<String> = all.iter().take(LISTED).map(|one| one.full_name()).collect();
            report.add(
                &JWKS_URI_FETCH_UNRESTRICTED,
                &deployment.head.origin,
                "metadata.name",
                [all.len().to_string(), names.join(", ")],
            );
        }
    }
}
