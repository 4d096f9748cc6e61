//! The control plane's own manifests and settings.

use anyhow::{Context as _, Result};

use crate::layout::Layout;
use crate::manifest::Source;

const MANIFEST: &str = include_str!("../../manifests/control-plane.yaml");
/// The injector's own templates, as its chart gives them to it.
const SIDECAR_TEMPLATE: &str = include_str!("../../../sidecar-injector/templates/sidecar.yaml");
const GATEWAY_TEMPLATE: &str = include_str!("../../../sidecar-injector/templates/gateway.yaml");

/// Deployments and Services of the control plane.
#[must_use]
pub fn sources() -> Vec<Source> {
    vec![Source {
        origin: "control-plane.yaml".to_owned(),
        text: MANIFEST.to_owned(),
    }]
}

/// Writes the settings.
///
/// # Errors
/// When a file cannot be written.
pub fn write_settings(layout: &Layout) -> Result<()> {
    let injection = serde_yaml::to_string(&serde_json::json!({
        "policy": "enabled",
        "defaultTemplates": ["sidecar"],
        "templates": {"sidecar": SIDECAR_TEMPLATE, "gateway": GATEWAY_TEMPLATE},
    }))
    .context("encode the injection configuration")?;
    for (name, text) in [
        ("mesh.yaml", include_str!("../../manifests/mesh.yaml")),
        (
            "accesslist.yaml",
            include_str!("../../manifests/accesslist.yaml"),
        ),
        (
            "inject-values.yaml",
            include_str!("../../manifests/inject-values.yaml"),
        ),
        ("inject-config.yaml", injection.as_str()),
    ] {
        let path = layout.settings().join(name);
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::manifest;
    use crate::node::workload;

    #[test]
    fn the_manifest_is_understood() {
        let objects: Vec<_> = sources()
            .iter()
            .flat_map(|source| manifest::parse(source).unwrap())
            .collect();
        let deployments: Vec<_> = objects
            .iter()
            .filter(|(key, _)| key.kind == "Deployment")
            .collect();
        assert_eq!(deployments.len(), 4);
        for (key, object) in deployments {
            workload::read(key, object).unwrap();
        }
    }
}
