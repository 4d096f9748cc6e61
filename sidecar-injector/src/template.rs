//! Templates in the language of Go's text/template, with the variables and functions of Istio
//! 1.30's injection templates. The engine is the crate `gotmpl`, used only by this module.

mod functions;
mod go_value;

use crate::mesh_config::Mesh;
use crate::workload::Workload;
use gotmpl::Value as GoValue;
use regex::Regex;
use serde_json::{Map, Value, json};
use std::fmt::Write;
use std::sync::LazyLock;

/// Maximum number of loop iterations in one rendering.
const MAX_ROUNDS: u64 = 100_000;
/// Maximum size of a rendered text, in bytes.
const MAX_OUTPUT: usize = 1 << 20;
/// Text that the engine writes for a missing value.
const NO_VALUE: &str = "<no value>";

/// Field chains of protobuf messages. Go templates call getters on them (`.GetX`, `.String`); here
/// they are plain fields.
static MESSAGE_CHAIN: LazyLock<Result<Regex, regex::Error>> =
    LazyLock::new(|| Regex::new(r"\.(?:ProxyConfig|MeshConfig)(?:\.[A-Za-z]\w*)+"));
/// In Go, `range` over a missing value is an empty loop.
static RANGE: LazyLock<Result<Regex, regex::Error>> =
    LazyLock::new(|| Regex::new(r"(\{\{-?\s*range\s[^}]*?)(\s*-?\}\})"));

/// A parsed template, rendered to a partial Pod.
pub struct Template {
    inner: gotmpl::Template,
}

impl std::fmt::Debug for Template {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Template")
            .field("name", &self.inner.name())
            .finish_non_exhaustive()
    }
}

/// Inputs of a rendering.
#[derive(Debug)]
pub struct Input<'i> {
    /// The Pod, without the parts of an earlier injection.
    pub pod: &'i Value,
    /// Its workload.
    pub workload: &'i Workload,
    /// Configuration of its proxy.
    pub proxy_config: &'i Value,
    /// Configuration of the mesh.
    pub mesh: &'i Mesh,
    /// Values of the injector.
    pub values: &'i Value,
    /// Revision that the Pod will belong to.
    pub revision: &'i str,
    /// Whether the proxy is to be a native sidecar.
    pub native_sidecars: bool,
    /// Image of the proxy.
    pub proxy_image: &'i str,
    /// Image of the init container.
    pub proxy_init_image: &'i str,
    /// User id of the proxy.
    pub uid: i64,
    /// Group id of the proxy.
    pub gid: i64,
}

/// Variables of one rendering, shared by all templates of a Pod.
#[derive(Debug)]
pub struct Data(GoValue);

impl Template {
    /// Parses a template.
    ///
    /// # Errors
    /// A message with line and column.
    pub fn parse(name: &str, text: &str) -> Result<Self, String> {
        let text = normalized(text)?;
        let inner = gotmpl::Template::new(name)
            .funcs(functions::all())
            .max_range_iters(MAX_ROUNDS)
            .parse(&text)
            .map_err(|error| error.to_string())?;
        Ok(Self { inner })
    }

    /// Renders the template and parses the result as YAML.
    ///
    /// # Errors
    /// If the template fails or the result is not a partial Pod.
    pub fn render(&self, data: &Data) -> Result<Value, String> {
        let text = self.render_text(data)?;
        match serde_yaml::from_str(&text) {
            Ok(Value::Null) => Ok(Value::Object(Map::new())),
            Ok(pod @ Value::Object(_)) => Ok(pod),
            Ok(_) => Err("the rendered text is not an object".to_owned()),
            Err(error) => Err(format!("the rendered text is not valid YAML: {error}")),
        }
    }

    /// Renders the template.
    ///
    /// # Errors
    /// If the template fails, or the text contains a missing value.
    pub fn render_text(&self, data: &Data) -> Result<String, String> {
        let mut output = Bounded(String::new());
        let result = self.inner.execute_fmt(&mut output, &data.0);
        let Bounded(text) = output;
        if text.len() >= MAX_OUTPUT {
            return Err(format!(
                "the rendered text is longer than {MAX_OUTPUT} bytes"
            ));
        }
        result.map_err(|error| error.to_string())?;
        if let Some(line) = text.lines().find(|line| line.contains(NO_VALUE)) {
            return Err(format!("a value is missing in the line {:?}", line.trim()));
        }
        Ok(text)
    }
}

/// Collects text up to the maximum size.
struct Bounded(String);

impl Write for Bounded {
    fn write_str(&mut self, text: &str) -> std::fmt::Result {
        if self.0.len() + text.len() > MAX_OUTPUT {
            // At the limit: the length tells the caller why writing failed.
            self.0 = " ".repeat(MAX_OUTPUT);
            return Err(std::fmt::Error);
        }
        self.0.push_str(text);
        Ok(())
    }
}

fn normalized(text: &str) -> Result<String, String> {
    let regex = |regex: &'static LazyLock<Result<Regex, regex::Error>>| {
        regex.as_ref().map_err(ToString::to_string)
    };
    let text = regex(&MESSAGE_CHAIN)?.replace_all(text, |found: &regex::Captures<'_>| {
        let chain = found.get(0).map_or("", |chain| chain.as_str());
        let mut plain = String::new();
        for segment in chain.split('.').skip(1) {
            let getter = segment
                .strip_prefix("Get")
                .filter(|rest| rest.starts_with(|c: char| c.is_ascii_uppercase()));
            match (segment, getter) {
                ("GetValue" | "String", _) => {}
                (_, Some(field)) | (field, None) => {
                    plain.push('.');
                    plain.push_str(field);
                }
            }
        }
        plain
    });
    Ok(regex(&RANGE)?
        .replace_all(&text, "$1 | rangeable$2")
        .into_owned())
}

impl Data {
    /// Creates the variables.
    pub fn new(input: &Input<'_>) -> Self {
        let Input {
            pod,
            workload,
            proxy_config,
            mesh,
            values,
            revision,
            native_sidecars,
            proxy_image,
            proxy_init_image,
            uid,
            gid,
        } = input;
        let member = |name: &str| pod.get(name).cloned().unwrap_or_else(|| json!({}));
        let mut meta = with_defaults(
            member("metadata"),
            json!({"name": "", "generateName": "", "namespace": "", "labels": {}, "annotations": {}}),
        );
        if let Some(meta) = meta.as_object_mut() {
            meta.remove("managedFields");
        }
        let mut spec = with_defaults(
            member("spec"),
            json!({"containers": [], "initContainers": [], "volumes": [], "serviceAccountName": ""}),
        );
        for list in ["containers", "initContainers"] {
            if let Some(containers) = spec.get_mut(list).and_then(Value::as_array_mut) {
                for container in containers {
                    *container = with_defaults(container.take(), json!({"image": "", "ports": []}));
                }
            }
        }
        let proxy_config = with_defaults((*proxy_config).clone(), json!({"proxyMetadata": {}}));
        let mesh = mesh.config();
        let inbound = mesh
            .pointer("/inboundTrafficPolicy/mode")
            .and_then(Value::as_str);
        let deployment = json!({"name": workload.name, "namespace": workload.namespace});
        let kind = json!({"kind": workload.kind, "apiVersion": workload.api_version});
        let variables = [
            ("ObjectMeta", go_value::structure(&meta)),
            ("Spec", go_value::structure(&spec)),
            ("DeploymentMeta", go_value::structure(&deployment)),
            ("TypeMeta", go_value::structure(&kind)),
            ("ProxyConfig", go_value::structure(&proxy_config)),
            ("MeshConfig", go_value::structure(&mesh)),
            ("Values", go_value::plain(values)),
            ("Revision", text(revision)),
            ("NativeSidecars", GoValue::Bool(*native_sidecars)),
            ("ProxyImage", text(proxy_image)),
            ("ProxyInitImage", text(proxy_init_image)),
            ("ProxyUID", GoValue::Int(*uid)),
            ("ProxyGID", GoValue::Int(*gid)),
            (
                "InboundTrafficPolicyMode",
                text(inbound.unwrap_or("PASSTHROUGH")),
            ),
        ];
        let map = variables
            .into_iter()
            .map(|(name, value)| (name.into(), value))
            .collect();
        Self(GoValue::Map(std::sync::Arc::new(map)))
    }
}

fn text(text: &str) -> GoValue {
    GoValue::String(text.into())
}

/// Fields of Go structs always exist: missing ones get their zero value.
fn with_defaults(value: Value, defaults: Value) -> Value {
    let (Value::Object(mut map), Value::Object(defaults)) = (value, defaults) else {
        return json!({});
    };
    for (key, default) in defaults {
        let absent = map.get(&key).is_none_or(Value::is_null);
        if absent {
            map.insert(key, default);
        }
    }
    Value::Object(map)
}

#[cfg(test)]
mod tests;
