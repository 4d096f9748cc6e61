//! Whether a Pod is injected: the selectors evaluated by the API server, and the decision of this
//! process.

use crate::config::{Config, Policy};
use crate::pod;
use crate::selector::{Labels, Selector};
use serde_json::Value;

/// Label and annotation with which a Pod requests or refuses a sidecar.
pub const INJECT: &str = "sidecar.istio.io/inject";
const REVISION: &str = "istio.io/rev";
const NAMESPACE_INJECTION: &str = "istio-injection";
/// System namespaces of the cluster, which are never injected.
const SYSTEM_NAMESPACES: [&str; 4] = [
    "kube-system",
    "kube-public",
    "kube-node-lease",
    "local-path-storage",
];

/// Why a Pod is skipped.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Skip {
    /// It uses the network of its node, whose traffic must not be redirected.
    HostNetwork,
    /// Its namespace belongs to the cluster or to the control plane.
    SystemNamespace,
    /// Its label or annotation refuses injection.
    Refused,
    /// A `neverInjectSelector` matches.
    NeverSelector,
    /// The policy is `disabled` and the Pod does not request a sidecar.
    Disabled,
    /// The policy is neither `enabled` nor `disabled`.
    UnknownPolicy(String),
}

impl std::fmt::Display for Skip {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::HostNetwork => f.write_str("the Pod uses the host's network"),
            Self::SystemNamespace => f.write_str("Pods in this namespace are never injected"),
            Self::Refused => write!(f, "the Pod has {INJECT}=false"),
            Self::NeverSelector => f.write_str("a neverInjectSelector matches the Pod"),
            Self::Disabled => f.write_str("the injection policy is disabled"),
            Self::UnknownPolicy(policy) => {
                write!(
                    f,
                    "the injection policy {policy:?} is neither enabled nor disabled"
                )
            }
        }
    }
}

/// A decision, with warnings for the author of the Pod.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decision {
    /// `None` if the Pod is injected.
    pub skip: Option<Skip>,
    /// Unclear labels or annotations, and settings that will not work.
    pub warnings: Vec<String>,
}

/// Decides about a Pod from the API server. The first rule that applies decides: host network,
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
                "spec.dnsPolicy is {policy:?}: the sidecar needs ClusterFirst to resolve the \
                 control plane"
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

/// Whether the Pod itself requests injection. The label takes precedence over the annotation, even
/// if its value is invalid.
fn wanted(pod: &Value, warnings: &mut Vec<String>) -> Option<bool> {
    if let Some(text) = pod::label(pod, INJECT) {
        return match text {
            "true" => Some(true),
            "false" => Some(false),
            _ => {
                warnings.push(format!(
                    "label {INJECT}={text:?} is ignored: want true or false"
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
                "annotation {INJECT}={text:?} is ignored: want true or false"
            ));
            None
        }
    }
}

/// Whether the selectors of the installed webhook objects send a Pod to the injector of `revision`
/// (`default` for the one without a name). `by_default` is the value `enableNamespacesByDefault`.
/// For programs that act as the API server.
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
