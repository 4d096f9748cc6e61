//! Selection of Ingresses, and the settings of the mesh configuration about them: pure.

use istio_api::mesh::v1alpha1::MeshConfig;
use istio_api::mesh::v1alpha1::mesh_config::IngressControllerMode;
use istio_api::well_known::names;

use crate::native::Ingress;

/// Controller name of our IngressClasses.
pub(super) const CONTROLLER: &str = "istio.io/ingress-controller";
/// A Service whose Pods have a different label, for historical reasons.
const USUAL_SERVICE: &str = "istio-ingressgateway";
/// The value of that label.
const USUAL_SELECTOR: &str = "ingressgateway";

/// Which Ingresses are selected.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// None.
    Off,
    /// Those of our class and those without a class.
    Default,
    /// Those of our class.
    Strict,
}

/// The settings of the mesh configuration about Ingresses.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Settings {
    /// Which Ingresses are selected.
    pub mode: Mode,
    /// Our class in the annotation.
    pub class: String,
    /// Value of the label `istio` of the gateway's Pods.
    pub selector: String,
    /// Namespace of the Gateways.
    pub namespace: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self::from(&MeshConfig::default())
    }
}

impl From<&MeshConfig> for Settings {
    fn from(mesh: &MeshConfig) -> Self {
        let or =
            |value: &str, default: &str| if value.is_empty() { default } else { value }.to_owned();
        let selector = match (
            mesh.ingress_selector.as_str(),
            mesh.ingress_service.as_str(),
        ) {
            ("", "" | USUAL_SERVICE) => USUAL_SELECTOR,
            ("", service) => service,
            (selector, _) => selector,
        };
        Self {
            mode: match mesh.ingress_controller_mode() {
                IngressControllerMode::Off => Mode::Off,
                IngressControllerMode::Default => Mode::Default,
                IngressControllerMode::Strict | IngressControllerMode::Unspecified => Mode::Strict,
            },
            class: or(&mesh.ingress_class, names::INGRESS_CLASS),
            selector: selector.to_owned(),
            namespace: or(&mesh.root_namespace, names::SYSTEM_NAMESPACE),
        }
    }
}

impl Settings {
    /// Whether an Ingress is selected. `is_our_class` says whether the IngressClass that it names
    /// is ours.
    pub(super) fn select(&self, ingress: &Ingress, is_our_class: impl Fn(&str) -> bool) -> bool {
        if self.mode == Mode::Off {
            return false;
        }
        if let Some(class) = &ingress.annotated_class {
            return *class == self.class;
        }
        match &ingress.class {
            Some(class) => is_our_class(class),
            None => self.mode == Mode::Default,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ingress(annotation: Option<&str>, class: Option<&str>) -> Ingress {
        Ingress {
            namespace: "shop".into(),
            name: "web".into(),
            created: None,
            annotated_class: annotation.map(str::to_owned),
            class: class.map(Into::into),
            tls: Vec::new(),
            default_backend: None,
            rules: Vec::new(),
        }
    }

    #[test]
    fn the_annotation_counts_before_the_class_and_the_class_before_the_mode() {
        let ours = |class: &str| class == "ours";
        let table = [
            // annotation, class, STRICT, DEFAULT
            (None, None, false, true),
            (Some("istio"), None, true, true),
            (Some("istio"), Some("other"), true, true),
            (Some("nginx"), None, false, false),
            (Some("nginx"), Some("ours"), false, false),
            (Some(""), None, false, false),
            (None, Some("ours"), true, true),
            (None, Some("other"), false, false),
        ];
        for (annotation, class, strict, default) in table {
            let ingress = ingress(annotation, class);
            let by = |mode| {
                let settings = Settings {
                    mode,
                    ..Settings::default()
                };
                settings.select(&ingress, ours)
            };
            let case = format!("{annotation:?} {class:?}");
            assert_eq!(by(Mode::Strict), strict, "{case}");
            assert_eq!(by(Mode::Default), default, "{case}");
            assert!(!by(Mode::Off), "{case}");
        }
    }

    #[test]
    fn the_mesh_configuration_decides() {
        assert_eq!(Settings::default().mode, Mode::Strict);
        let selector = |service: &str, selector: &str| {
            let mesh = MeshConfig {
                ingress_service: service.to_owned(),
                ingress_selector: selector.to_owned(),
                ..MeshConfig::default()
            };
            Settings::from(&mesh).selector
        };
        assert_eq!(selector("", ""), "ingressgateway");
        assert_eq!(selector("istio-ingressgateway", ""), "ingressgateway");
        assert_eq!(selector("edge", ""), "edge");
        assert_eq!(selector("edge", "front"), "front");
    }
}
