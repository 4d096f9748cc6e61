//! The settings that galley takes from the mesh configuration.

use istio_api::mesh::v1alpha1::MeshConfig;

use crate::processing::ingress;
use crate::processing::synthesis::Names;

/// The settings that galley takes from the mesh configuration.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Names that go into resources.
    pub names: Names,
    /// Which Ingresses are selected, and for which gateway.
    pub ingress: ingress::Settings,
}

impl Settings {
    /// Reads the settings from the mesh configuration.
    pub fn take(&mut self, mesh: &MeshConfig) {
        if !mesh.trust_domain.is_empty() {
            self.names.trust_domain.clone_from(&mesh.trust_domain);
        }
        self.ingress = ingress::Settings::from(mesh);
    }
}

impl From<Names> for Settings {
    /// The default settings with these names.
    fn from(names: Names) -> Self {
        Self {
            names,
            ingress: ingress::Settings::default(),
        }
    }
}
