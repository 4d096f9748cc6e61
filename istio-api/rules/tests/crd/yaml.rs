//! Definitions as YAML, the same bytes whatever the order of members in memory.

use istio_api::collections::Collection;
use serde_yaml::{Mapping, Value as Yaml};

/// `networking.istio.io_gateways.yaml`
pub(crate) fn file_name(collection: &Collection) -> String {
    format!("{}_{}.yaml", collection.group, collection.plural)
}

/// Words that a reader of YAML 1.1, such as kubectl, takes for a boolean when they are bare.
const BOOLEANS: &[&str] = &["y", "n", "yes", "no", "on", "off"];

/// The text of a definition.
pub(crate) fn write(definition: &serde_json::Value) -> Result<String, String> {
    let sorted = sorted(definition)?;
    let text = serde_yaml::to_string(&sorted).map_err(|error| error.to_string())?;
    Ok(format!(
        "# Made by `cargo xtask crds`; do not edit.\n{text}"
    ))
}

fn sorted(value: &serde_json::Value) -> Result<Yaml, String> {
    let text = |text: &str| {
        if BOOLEANS.contains(&text.to_lowercase().as_str()) {
            return Err(format!("{text:?} would be read as a boolean"));
        }
        Ok(Yaml::String(text.to_owned()))
    };
    Ok(match value {
        serde_json::Value::Object(members) => {
            let mut names: Vec<_> = members.iter().collect();
            names.sort_by_key(|(name, _)| *name);
            let mut mapping = Mapping::new();
            for (name, value) in names {
                mapping.insert(text(name)?, sorted(value)?);
            }
            Yaml::Mapping(mapping)
        }
        serde_json::Value::Array(elements) => {
            Yaml::Sequence(elements.iter().map(sorted).collect::<Result<_, _>>()?)
        }
        serde_json::Value::String(value) => text(value)?,
        other => serde_yaml::to_value(other).map_err(|error| error.to_string())?,
    })
}
