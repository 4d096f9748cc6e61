//! Whether a Pod is injected: what the API server's selectors let through, and what this process
//! decides then.

use crate::config::{Config, Policy};
use crate::pod;
use crate::selector::{Labels, Selector};
use serde_json::Value;

/// Label and annotation by which a Pod asks for a sidecar or refuses it.
pub const INJECT: &str = "sidecar.istio.io/inject";
const REVISION: &str = "istio.io/rev";
const NAMESPACE_INJECTION: &str = "istio-injection";
/// Namespaces of the cluster itself, which are never injected.
const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Why a Pod is left as it is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It uses the network of its node, which must not be redirected.
    HostNetwork,
    /// Its namespace belongs to the cluster or to the control plane.
    SystemNamespace,
    /// Its label or annotation says so.
    Refused,
    /// A `neverInjectSelector` matches.
    NeverSelector,
    /// The policy is `disabled` and nothing asks for a sidecar.
    Disabled,
    /// The policy is neither `enabled` nor `disabled`.
    UnknownPolicy(String),
}

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::HostNetwork => f.write_str("the Pod uses the host's network"),
            Self::SystemNamespace => f.write_str("the namespace is never injected"),
            Self::Refused => write!(f, "the Pod says {INJECT}=false"),
            Self::NeverSelector => f.write_str("a neverInjectSelector matches"),
            Self::Disabled => f.write_str("the policy is disabled"),
            Self::UnknownPolicy(policy) => {
                write!(f, "the policy {policy:?} is neither enabled nor disabled")
            }
        }
    }
}

/// A decision, with what the author of the Pod should know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// Nothing if the Pod is to be injected.
    pub skip: Option<Skip>,
    /// Marks that could not be understood, settings that will not work.
    pub warnings: Vec<String>,
}

/// Decides for a Pod that the API server has sent. The first rule that says something wins: host network,
/// namespace, label, annotation, never selectors, always selectors, policy.
pub fn decide(pod: &Value, namespace: &str, config: &Config) -> Decision {
    let mut warnings = Vec::new();
    let skip = skip(pod, namespace, config, &mut warnings);
    if skip.is_none() {
        let dns = pod
            .get("spec")
            .and_then(|spec| spec.get("dnsPolicy"))
            .and_then(Value::as_str);
        if let Some(policy) = dns.filter(|policy| !policy.is_empty() && *policy != "ClusterFirst") {
            warnings.push(format!(
                "spec.dnsPolicy is {policy:?}: names of the control plane may not resolve, the sidecar needs ClusterFirst"
            ));
        }
    }
    Decision { skip, warnings }
}

fn skip(pod: &Value, namespace: &str, config: &Config, warnings: &mut Vec<String>) -> Option<Skip> {
    let spec = pod.get("spec");
    if spec
        .and_then(|spec| spec.get("hostNetwork"))
        .and_then(Value::as_bool)
        == Some(true)
    {
        return Some(Skip::HostNetwork);
    }
    if SYSTEM_NAMESPACES.contains(&namespace) || namespace == config.own_namespace {
        return Some(Skip::SystemNamespace);
    }
    let wanted = wanted(pod, warnings);
    let labels = pod::labels(pod);
    let matched =
        |selectors: &[Selector]| selectors.iter().any(|selector| selector.matches(&labels));
    let decided = match wanted {
        Some(true) => None,
        Some(false) => Some(Skip::Refused),
        None if matched(&config.never_inject) => Some(Skip::NeverSelector),
        None if matched(&config.always_inject) => None,
        None => match config.policy {
            Policy::Disabled => Some(Skip::Disabled),
            Policy::Enabled | Policy::Other(_) => None,
        },
    };
    match &config.policy {
        Policy::Other(policy) => Some(Skip::UnknownPolicy(policy.clone())),
        Policy::Enabled | Policy::Disabled => decided,
    }
}

/// What the Pod itself asks for. The label beats the annotation, even where it says nothing that can be
/// understood.
fn wanted(pod: &Value, warnings: &mut Vec<String>) -> Option<bool> {
    if let Some(text) = pod::label(pod, INJECT) {
        return match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                warnings.push(format!(
                    "label {INJECT}={text:?} is neither true nor false: ignored"
                ));
                None
            }
        };
    }
    let text = pod::annotation(pod, INJECT)?;
    match text.to_ascii_lowercase().as_str() {
        "y" | "yes" | "true" | "on" => Some(true),
        "n" | "no" | "false" | "off" => Some(false),
        "" => None,
        _ => {
            warnings.push(format!(
                "annotation {INJECT}={text:?} is neither true nor false: ignored"
            ));
            None
        }
    }
}

/// Whether the selectors of the installed webhook objects send a Pod to the injector of `revision`
/// (`default` for the one without a name). `by_default` is the value `enableNamespacesByDefault`. For
/// whoever takes the API server's part.
pub fn webhook_selects(
    namespace: &str,
    namespace_labels: &Labels,
    pod_labels: &Labels,
    revision: &str,
    by_default: bool,
) -> bool {
    let is_default = revision == "default";
    let inject = pod_labels.get(INJECT).map(String::as_str);
    let pod_revision = pod_labels.get(REVISION).map(String::as_str);
    let injection = namespace_labels
        .get(NAMESPACE_INJECTION)
        .map(String::as_str);
    let namespace_revision = namespace_labels.get(REVISION).map(String::as_str);
    match (injection, namespace_revision) {
        (Some("enabled"), _) => is_default && inject != Some("false"),
        (Some(_), _) => false,
        (None, Some(wanted)) => wanted == revision && inject != Some("false"),
        (None, None) => match (inject, pod_revision) {
            (Some("false"), _) => false,
            (_, Some(wanted)) => wanted == revision,
            (Some("true"), None) => is_default,
            (Some(_), None) => false,
            (None, None) => is_default && by_default && !SYSTEM_NAMESPACES.contains(&namespace),
        },
    }
}
