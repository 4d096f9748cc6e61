//! Settings of the mesh and of injection, from config maps or a file.

use std::collections::BTreeMap;
use std::sync::Arc;

use serde_json::Value;

use super::{ParseYaml, Resource};
use crate::analysis::origin::{Origin, Place};
use istio_api::json::{self, Unknown};
use istio_api::mesh::v1alpha1::{MeshConfig, MeshNetworks};
use istio_api::well_known::names;

type ConfigMap = Resource<BTreeMap<String, String>>;

/// Settings from one text.
#[derive(Debug)]
pub(in crate::analysis) struct Settings<T> {
    /// The object that messages are about; `None` if there are no settings.
    pub(in crate::analysis) origin: Option<Arc<Origin>>,
    /// The settings; all defaults if the text cannot be read.
    pub(in crate::analysis) spec: T,
    /// The settings as they were written.
    pub(in crate::analysis) value: Value,
    /// Why the text cannot be read.
    pub(in crate::analysis) errors: Vec<String>,
}

impl<T: prost::Message + prost::Name + Default> Settings<T> {
    fn read(source: Option<(&str, Origin)>, yaml: ParseYaml) -> Self {
        let mut settings = Self {
            origin: None,
            spec: T::default(),
            value: Value::Null,
            errors: Vec::new(),
        };
        let Some((text, origin)) = source else {
            return settings;
        };
        settings.origin = Some(Arc::new(origin));
        match yaml(text) {
            Err(error) => settings.errors.push(error),
            Ok(None) => {}
            Ok(Some(value)) => {
                match json::read::<T>(&value, Unknown::Prune) {
                    Ok((spec, _)) => settings.spec = spec,
                    Err(issues) => {
                        settings.errors = issues.iter().map(ToString::to_string).collect();
                    }
                }
                settings.value = value;
            }
        }
        settings
    }
}

/// Settings of the mesh.
#[derive(Debug)]
pub(in crate::analysis) struct Mesh {
    pub(in crate::analysis) config: Settings<MeshConfig>,
    pub(in crate::analysis) networks: Settings<MeshNetworks>,
    /// Namespace of policies that apply everywhere.
    pub(in crate::analysis) root_namespace: String,
}

impl Mesh {
    pub(super) fn read<'a>(
        file: Option<(String, Place)>,
        config_maps: impl Iterator<Item = &'a ConfigMap>,
        istio_namespace: &str,
        revision: &str,
        yaml: ParseYaml,
    ) -> Self {
        let wanted = match revision {
            "" | "default" => names::MESH_CONFIG_MAP.to_owned(),
            revision => format!("{}-{revision}", names::MESH_CONFIG_MAP),
        };
        let map = config_maps.into_iter().find(|map| map.name() == wanted);
        let of_map = |kind: &'static str, key: &str| {
            let map = map?;
            let mut origin = (*map.head.origin).clone();
            origin.kind = kind;
            Some((map.spec.get(key)?.as_str(), origin))
        };
        let config = match &file {
            None => Settings::read(of_map("MeshConfig", "mesh"), yaml),
            Some((text, place)) => {
                let mut origin = Origin::new(
                    "MeshConfig",
                    istio_namespace.into(),
                    names::MESH_CONFIG_MAP.into(),
                    &BTreeMap::new(),
                );
                origin.place = Some(place.clone());
                Settings::<MeshConfig>::read(Some((text, origin)), yaml)
            }
        };
        let networks = Settings::read(of_map("MeshNetworks", "meshNetworks"), yaml);
        let root_namespace = match config.spec.root_namespace.as_str() {
            "" => istio_namespace.to_owned(),
            name => name.to_owned(),
        };
        Self {
            config,
            networks,
            root_namespace,
        }
    }
}

/// What an injector does with Pods.
#[derive(Debug, Default, PartialEq, Eq)]
pub(in crate::analysis) struct Injector {
    /// Whether Pods of namespaces without a label get a sidecar.
    pub(in crate::analysis) is_default: bool,
    /// Image of the sidecar.
    pub(in crate::analysis) image: Option<String>,
}

/// Injectors by revision, from their values.
pub(super) fn injectors<'a>(
    config_maps: impl Iterator<Item = &'a ConfigMap>,
    yaml: ParseYaml,
) -> BTreeMap<String, Injector> {
    let mut injectors = BTreeMap::new();
    for map in config_maps {
        let Some(rest) = map.name().strip_prefix("istio-sidecar-injector") else {
            continue;
        };
        let revision = match rest.strip_prefix('-') {
            Some(revision) => revision,
            None if rest.is_empty() => "default",
            None => continue,
        };
        let values = map.spec.get("values").map(|text| yaml(text));
        if let Some(Ok(Some(values))) = values {
            injectors.insert(revision.to_owned(), Injector::read(&values));
        }
    }
    injectors
}

impl Injector {
    fn read(values: &Value) -> Self {
        let is_default = values.pointer("/sidecarInjectorWebhook/enableNamespacesByDefault");
        // A tag such as 1.1 may have been written as a number.
        let word = |path: &str| match values.pointer(path)? {
            Value::String(text) if !text.is_empty() => Some(text.clone()),
            Value::Number(number) => Some(number.to_string()),
            _ => None,
        };
        let image = word("/global/proxy/image").and_then(|image| {
            if image.contains('/') {
                return Some(image);
            }
            Some(format!(
                "{}/{image}:{}",
                word("/global/hub")?,
                word("/global/tag")?
            ))
        });
        Self {
            is_default: is_default.and_then(Value::as_bool).unwrap_or_default(),
            image,
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn the_image_is_put_together_unless_it_is_whole() {
        let image = |values: Value| Injector::read(&json!({"global": values})).image;
        assert_eq!(
            image(json!({"hub": "h", "tag": 1.5, "proxy": {"image": "p"}})).as_deref(),
            Some("h/p:1.5")
        );
        assert_eq!(
            image(json!({"proxy": {"image": "a/b:c"}})).as_deref(),
            Some("a/b:c")
        );
        assert_eq!(image(json!({"hub": "h", "proxy": {"image": "p"}})), None);
    }
}
