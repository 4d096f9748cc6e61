//! Configuration of the injector: the injection file, its values, and the mesh configuration.

mod images;

use crate::selector::Selector;
use crate::template::Template;
use serde::Deserialize;
use serde_json::Value;
use sha2::{Digest, Sha256};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

pub use crate::mesh_config::Mesh;

/// Default template of sidecars.
pub const SIDECAR_TEMPLATE: &str = include_str!("../templates/sidecar.yaml");
/// Default template of gateways.
pub const GATEWAY_TEMPLATE: &str = include_str!("../templates/gateway.yaml");
const DEFAULT_VALUES: &str = include_str!("../templates/values.yaml");
/// Maximum size of a configuration file, in bytes.
const MAX_FILE: u64 = 4 << 20;

/// Why a configuration is rejected.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: PathBuf,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The injection file is invalid.
    #[error("invalid injection configuration: {0}")]
    Injection(String),
    /// The values are invalid.
    #[error("invalid injection values: {0}")]
    Values(String),
    /// The mesh configuration is invalid.
    #[error("invalid mesh configuration: {0}")]
    Mesh(String),
}

/// Default for Pods that do not ask for or refuse injection.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Policy {
    /// Pods are injected.
    Enabled,
    /// Pods are not injected.
    Disabled,
    /// An unknown value: no Pod is injected.
    Other(String),
}

/// Settings of the process that are visible to templates.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Whether the proxy is a native sidecar (an init container that keeps running) unless the Pod
    /// says otherwise.
    pub native_sidecars: bool,
    /// Revision of this injector, unless the values set one.
    pub revision: String,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            native_sidecars: true,
            revision: "default".to_owned(),
        }
    }
}

/// Locations of the configuration files.
#[derive(Clone, Debug)]
pub struct Files {
    /// Injection file.
    pub injection: PathBuf,
    /// Values; `None` for the defaults.
    pub values: Option<PathBuf>,
    /// Mesh configuration; `None` for the defaults.
    pub mesh: Option<PathBuf>,
}

/// A valid configuration.
#[derive(Debug)]
pub struct Config {
    /// See [`Policy`].
    pub policy: Policy,
    /// Templates of Pods that do not name any.
    pub default_templates: Vec<String>,
    /// Names that stand for several templates.
    pub aliases: BTreeMap<String, Vec<String>>,
    /// Pods with matching labels are not injected.
    pub never_inject: Vec<Selector>,
    /// Pods with matching labels are injected even if the policy is `disabled`.
    pub always_inject: Vec<Selector>,
    /// Annotations that are finally added to every injected Pod.
    pub injected_annotations: BTreeMap<String, String>,
    /// Parsed templates by name.
    pub templates: BTreeMap<String, Template>,
    /// Values, merged over the defaults.
    pub values: Value,
    /// Mesh configuration.
    pub mesh: Mesh,
    /// See [`Settings`].
    pub settings: Settings,
    /// Namespace of the control plane, never injected.
    pub own_namespace: String,
    /// Warnings about ignored parts of the configuration.
    pub warnings: Vec<String>,
    /// SHA-256 of the injection file, in hex.
    pub digest: String,
}

#[derive(Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct InjectionFile {
    policy: Option<String>,
    default_templates: Vec<String>,
    aliases: BTreeMap<String, Vec<String>>,
    never_inject_selector: Vec<serde_yaml::Value>,
    always_inject_selector: Vec<serde_yaml::Value>,
    injected_annotations: BTreeMap<String, String>,
    templates: BTreeMap<String, String>,
    template: Option<serde_yaml::Value>,
}

impl Config {
    /// Reads the configuration files.
    ///
    /// # Errors
    /// The first problem found; an invalid configuration is rejected as a whole.
    pub fn load(files: &Files, settings: Settings) -> Result<Self, Error> {
        let injection = read(&files.injection)?;
        let optional = |path: &Option<PathBuf>| path.as_deref().map(read).transpose();
        let values = optional(&files.values)?.unwrap_or_default();
        let mesh = optional(&files.mesh)?.unwrap_or_default();
        Self::parse(&injection, &values, &mesh, settings)
    }

    /// Parses the injection file (YAML), values (YAML or JSON) and mesh configuration (YAML); the
    /// last two may be empty.
    ///
    /// # Errors
    /// The first problem found.
    pub fn parse(
        injection: &str,
        values: &str,
        mesh: &str,
        settings: Settings,
    ) -> Result<Self, Error> {
        let digest = Sha256::digest(injection)
            .iter()
            .map(|byte| format!("{byte:02x}"))
            .collect();
        let file: Option<InjectionFile> =
            serde_yaml::from_str(injection).map_err(|error| Error::Injection(error.to_string()))?;
        let file = file.unwrap_or_default();
        if file.templates.is_empty() {
            let text = if file.template.is_some() {
                "the key `template` holds one template of a whole Pod spec, the format of Istio \
                 1.1; use `templates` with named partial Pods instead"
            } else {
                "the key `templates` is missing"
            };
            return Err(Error::Injection(text.to_owned()));
        }
        let mut templates = BTreeMap::new();
        for (name, text) in file.templates {
            let template = Template::parse(&name, &text)
                .map_err(|error| Error::Injection(format!("invalid template {name:?}: {error}")))?;
            templates.insert(name, template);
        }
        let mut default_templates = file.default_templates;
        if default_templates.is_empty() {
            default_templates.push("sidecar".to_owned());
        }
        let mut warnings = Vec::new();
        let never_inject = selectors(
            "neverInjectSelector",
            &file.never_inject_selector,
            &mut warnings,
        );
        let always_inject = selectors(
            "alwaysInjectSelector",
            &file.always_inject_selector,
            &mut warnings,
        );
        let values = read_values(values)?;
        let own_namespace = values
            .pointer("/global/istioNamespace")
            .and_then(Value::as_str);
        Ok(Self {
            policy: match file.policy.as_deref() {
                Some("enabled") => Policy::Enabled,
                Some("disabled") => Policy::Disabled,
                other => Policy::Other(other.unwrap_or_default().to_owned()),
            },
            default_templates,
            aliases: file.aliases,
            never_inject,
            always_inject,
            injected_annotations: file.injected_annotations,
            templates,
            own_namespace: own_namespace.unwrap_or("istio-system").to_owned(),
            mesh: Mesh::parse(mesh).map_err(Error::Mesh)?,
            values,
            settings,
            warnings,
            digest,
        })
    }

    /// The value at a JSON pointer.
    pub fn value(&self, pointer: &str) -> Option<&Value> {
        self.values
            .pointer(pointer)
            .filter(|value| !value.is_null())
    }

    fn text(&self, pointer: &str) -> &str {
        self.value(pointer)
            .and_then(Value::as_str)
            .unwrap_or_default()
    }

    /// Revision of injected Pods.
    pub fn revision_name(&self) -> &str {
        let revision = self.text("/revision");
        if revision.is_empty() {
            &self.settings.revision
        } else {
            revision
        }
    }

    /// Network of the cluster, if set.
    pub fn network(&self) -> Option<&str> {
        Some(self.text("/global/network")).filter(|network| !network.is_empty())
    }
}

/// The default injection file, as YAML.
pub fn default_injection() -> String {
    let file = serde_json::json!({
        "policy": "enabled",
        "defaultTemplates": ["sidecar"],
        "templates": {"sidecar": SIDECAR_TEMPLATE, "gateway": GATEWAY_TEMPLATE},
    });
    serde_yaml::to_string(&file).unwrap_or_default()
}

/// The default values, as YAML.
pub fn default_values() -> &'static str {
    DEFAULT_VALUES
}

fn read(path: &Path) -> Result<String, Error> {
    use std::io::Read as _;
    let read_error = |source| Error::Read {
        path: path.to_owned(),
        source,
    };
    let mut text = String::new();
    let file = std::fs::File::open(path).map_err(read_error)?;
    file.take(MAX_FILE + 1)
        .read_to_string(&mut text)
        .map_err(read_error)?;
    if text.len() as u64 > MAX_FILE {
        let source = std::io::Error::other(format!("the file is larger than {MAX_FILE} bytes"));
        return Err(read_error(source));
    }
    Ok(text)
}

fn selectors(name: &str, list: &[serde_yaml::Value], warnings: &mut Vec<String>) -> Vec<Selector> {
    list.iter()
        .enumerate()
        .filter_map(|(index, value)| match Selector::parse(value) {
            Ok(selector) => Some(selector),
            Err(error) => {
                warnings.push(format!("{name}[{index}] is ignored: {error}"));
                None
            }
        })
        .collect()
}

fn read_values(text: &str) -> Result<Value, Error> {
    let parse = |text| {
        serde_yaml::from_str::<Value>(text).map_err(|error| Error::Values(error.to_string()))
    };
    let mut values = parse(DEFAULT_VALUES)?;
    match parse(text)? {
        Value::Null => {}
        given @ Value::Object(_) => overlay(&mut values, given),
        _ => return Err(Error::Values("want an object".to_owned())),
    }
    Ok(values)
}

/// Merges objects and replaces everything else; `null` keeps the default.
fn overlay(base: &mut Value, given: Value) {
    match (base, given) {
        (_, Value::Null) => {}
        (Value::Object(base), Value::Object(given)) => {
            for (key, value) in given {
                // Limits and requests belong together.
                if key == "resources" {
                    base.insert(key, value);
                } else {
                    overlay(base.entry(key).or_insert(Value::Null), value);
                }
            }
        }
        (base, given) => *base = given,
    }
}
