//! Injection: a pure function of the Pod, its origin, and the configuration.

mod annotation;
mod merge;
mod order;
mod probes;
mod prometheus;
mod reinjection;

use crate::config::Config;
use crate::patch::{self, Operation};
use crate::pod::{self, List};
use crate::policy::{self, Skip};
use crate::template::{self, Data};
use serde_json::Value;

pub use crate::refusal::Refusal;
pub use crate::workload::Workload;
pub use merge::strategic_merge;

const NETWORK_LABEL: &str = "topology.istio.io/network";
const TEMPLATES: &str = "inject.istio.io/templates";
pub(crate) const PROXY_CONFIG: &str = "proxy.istio.io/config";
/// Default user and group id of the proxy, exempt from traffic capture.
const PROXY_ID: i64 = 1337;

/// Origin of a Pod.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'r> {
    /// Namespace in which the Pod is created; the Pod itself often has none yet.
    pub namespace: &'r str,
    /// Environment variables from the URL of the webhook.
    pub url_env: &'r [(String, String)],
    /// The workload of the Pod, if known; otherwise derived from its owner.
    pub workload: Option<&'r Workload>,
}

/// Result for a Pod.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// The Pod stays unchanged.
    Skipped {
        /// Why.
        reason: Skip,
        /// Warnings for its author.
        warnings: Vec<String>,
    },
    /// The Pod got a proxy.
    Injected(Box<Injected>),
}

/// An injected Pod.
#[derive(Clone, Debug)]
pub struct Injected {
    /// The Pod after injection.
    pub pod: Value,
    /// Patch from the given Pod to this one.
    pub patch: Vec<Operation>,
    /// Warnings for its author.
    pub warnings: Vec<String>,
}

/// Injects the proxy into a Pod, leaves the Pod unchanged, or rejects it. Injecting the result
/// again does not change it.
///
/// # Errors
/// The reason why this Pod cannot be injected.
pub fn inject(pod: &Value, request: &Request<'_>, config: &Config) -> Result<Outcome, Refusal> {
    pod::check_shape(pod)?;
    let namespace = namespace(pod, request);
    let decision = policy::decide(pod, &namespace, config);
    if let Some(reason) = decision.skip {
        return Ok(Outcome::Skipped {
            reason,
            warnings: decision.warnings,
        });
    }
    annotation::check(pod)?;
    let proxy_config = config
        .mesh
        .proxy_config(pod::annotation(pod, PROXY_CONFIG))
        .map_err(|error| {
            Refusal::Annotations(vec![format!("invalid annotation {PROXY_CONFIG}: {error}")])
        })?;
    let templates = chosen_templates(pod, config)?;

    let mut original = pod.clone();
    // Bookkeeping of the API server, not needed here.
    pod::object(&mut original, "metadata").remove("managedFields");
    let record = reinjection::Record::read(&original)?;
    let stripped = reinjection::stripped(&original, &record);
    let workload = match request.workload {
        Some(workload) => workload.clone(),
        None => Workload::of(&stripped, &namespace),
    };
    let (uid, gid) = reinjection::proxy_ids(&stripped).unwrap_or((PROXY_ID, PROXY_ID));
    let variant = pod::annotation(&stripped, "sidecar.istio.io/proxyImageType");
    let data = Data::new(&template::Input {
        pod: &stripped,
        workload: &workload,
        proxy_config: &proxy_config,
        mesh: &config.mesh,
        values: &config.values,
        revision: config.revision_name(),
        native_sidecars: config.settings.native_sidecars,
        proxy_image: &config.proxy_image(variant),
        proxy_init_image: &config.proxy_init_image(variant),
        uid,
        gid,
    });

    let mut injected = Value::Object(serde_json::Map::new());
    let mut overlays = Vec::new();
    let names: Vec<&str> = templates.iter().map(|(name, _)| *name).collect();
    for (name, template) in templates {
        let overlay = template
            .render(&data)
            .map_err(|message| Refusal::Template {
                name: name.to_owned(),
                message,
            })?;
        injected = strategic_merge(injected, &overlay);
        overlays.push(overlay);
    }
    let mut merged = original.clone();
    reinjection::drop_stale(&mut merged, &injected, &record);
    reinjection::move_to_template_list(&mut merged, &injected);
    reinjection::clear_auto_images(&mut merged);
    for overlay in &overlays {
        merged = strategic_merge(merged, overlay);
    }
    reinjection::apply_overrides(&mut merged, &original, &injected, &record, &proxy_config);
    let containers = merged.pointer("/spec/containers");
    if containers.is_none_or(|list| list.as_array().is_some_and(Vec::is_empty)) {
        return Err(Refusal::NoApplication);
    }
    pod::check_shape(&merged).map_err(|error| Refusal::Template {
        name: names.join(","),
        message: format!("the result is not a valid Pod: {error}"),
    })?;
    finish(
        &mut merged,
        &original,
        &injected,
        &proxy_config,
        request,
        config,
    );

    // The patch applies to the object as the API server sent it, including its bookkeeping.
    if let Some(fields) = pod
        .get("metadata")
        .and_then(|metadata| metadata.get("managedFields"))
    {
        pod::object(&mut merged, "metadata").insert("managedFields".to_owned(), fields.clone());
    }
    let patch = patch::diff(pod, &merged);
    Ok(Outcome::Injected(Box::new(Injected {
        pod: merged,
        patch,
        warnings: decision.warnings,
    })))
}

fn namespace(pod: &Value, request: &Request<'_>) -> String {
    let own = pod
        .get("metadata")
        .and_then(|metadata| metadata.get("namespace"));
    let own = own.and_then(Value::as_str).unwrap_or_default();
    [request.namespace, own, "default"]
        .into_iter()
        .find(|n| !n.is_empty())
        .unwrap_or_default()
        .to_owned()
}

fn chosen_templates<'c>(
    pod: &Value,
    config: &'c Config,
) -> Result<Vec<(&'c str, &'c template::Template)>, Refusal> {
    let asked: Vec<String> = match pod::annotation(pod, TEMPLATES) {
        Some(list) => list
            .split(',')
            .map(str::trim)
            .filter(|name| !name.is_empty())
            .map(str::to_owned)
            .collect(),
        None => config.default_templates.clone(),
    };
    let mut chosen = Vec::new();
    for name in asked {
        let names = config
            .aliases
            .get(&name)
            .cloned()
            .unwrap_or_else(|| vec![name]);
        for name in names {
            let Some((name, template)) = config.templates.get_key_value(&name) else {
                let known: Vec<_> = config
                    .templates
                    .keys()
                    .chain(config.aliases.keys())
                    .map(String::as_str)
                    .collect();
                return Err(Refusal::UnknownTemplate {
                    unknown: name,
                    known: known.join(", "),
                });
            };
            chosen.push((name.as_str(), template));
        }
    }
    Ok(chosen)
}

/// Changes of the merged Pod beyond the templates.
fn finish(
    merged: &mut Value,
    original: &Value,
    injected: &Value,
    proxy_config: &Value,
    request: &Request<'_>,
    config: &Config,
) {
    let status_port = annotation::status_port(original, proxy_config);
    if let Some(proxy) = pod::proxy_mut(merged) {
        for (variable, value) in request.url_env {
            pod::set_env(proxy, variable, value);
        }
    }
    set_network(merged, request, config);
    prometheus::merge(merged, &config.mesh, status_port);
    if probes::wanted(original, config) {
        probes::rewrite(merged, status_port);
    }
    for (name, value) in &config.injected_annotations {
        pod::set_metadata(merged, "annotations", name, value.clone());
    }
    let status = reinjection::status(injected, config.revision_name());
    pod::set_metadata(merged, "annotations", reinjection::STATUS, status);
    order::arrange(merged, order::hold(proxy_config, config));
    for list in [List::Containers, List::InitContainers] {
        if pod::containers(merged, list).is_empty() {
            pod::object(merged, "spec").remove(list.member());
        }
    }
}

/// Sets the network of the Pod, if known, as environment variable of the proxy and as label.
fn set_network(merged: &mut Value, request: &Request<'_>, config: &Config) {
    const VARIABLE: &str = "ISTIO_META_NETWORK";
    let from_label = pod::label(merged, NETWORK_LABEL).map(str::to_owned);
    let from_url = request
        .url_env
        .iter()
        .find(|(name, _)| name == VARIABLE)
        .map(|(_, value)| value.clone());
    let network = from_label
        .or(from_url)
        .or_else(|| config.network().map(str::to_owned));
    let Some(network) = network.filter(|network| !network.is_empty()) else {
        return;
    };
    if let Some(proxy) = pod::proxy_mut(merged) {
        pod::set_env(proxy, VARIABLE, &network);
        pod::set_metadata(merged, "labels", NETWORK_LABEL, network);
    }
}
