//! Injection without an API server: Deployments, Jobs and other objects that create Pods get the
//! Pod template that the webhook would make of their Pods.

use serde_json::{Value, json};

use crate::config::Config;
use crate::inject::{Outcome, Refusal, Request, Workload, inject};

/// Maximum depth of nested lists.
const MAX_DEPTH: usize = 8;

/// Result for an object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Result {
    /// The object creates no Pods, or none that are injected.
    Unchanged,
    /// The object to apply.
    Injected(Box<Value>),
}

/// Why a Pod template cannot be injected.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{object}: {refusal}")]
pub struct Error {
    /// Kind and name of the object.
    pub object: String,
    /// Why its Pods are rejected.
    pub refusal: Refusal,
}

/// A kind of object that creates Pods, and the JSON pointer of their template.
struct Maker {
    group: &'static str,
    kind: &'static str,
    template: &'static str,
}

const MAKERS: [Maker; 9] = [
    maker("", "Pod", ""),
    maker("", "ReplicationController", "/spec/template"),
    maker("apps", "DaemonSet", "/spec/template"),
    maker("apps", "Deployment", "/spec/template"),
    maker("apps", "ReplicaSet", "/spec/template"),
    maker("apps", "StatefulSet", "/spec/template"),
    maker("apps.openshift.io", "DeploymentConfig", "/spec/template"),
    maker("batch", "CronJob", "/spec/jobTemplate/spec/template"),
    maker("batch", "Job", "/spec/template"),
];

const fn maker(group: &'static str, kind: &'static str, template: &'static str) -> Maker {
    Maker {
        group,
        kind,
        template,
    }
}

/// Injects the Pods that `object`, or each item of a list, creates. Objects without a namespace are
/// treated as being in `namespace`. Warnings for their author are passed to `warn`.
///
/// # Errors
/// If the webhook would reject such a Pod.
pub fn object(
    object: &Value,
    namespace: &str,
    config: &Config,
    warn: &mut dyn FnMut(String),
) -> std::result::Result<Result, Error> {
    at_depth(object, namespace, config, warn, MAX_DEPTH)
}

fn at_depth(
    object: &Value,
    namespace: &str,
    config: &Config,
    warn: &mut dyn FnMut(String),
    depth: usize,
) -> std::result::Result<Result, Error> {
    let text = |path: &str| {
        object
            .pointer(path)
            .and_then(Value::as_str)
            .unwrap_or_default()
    };
    let (api_version, kind) = (text("/apiVersion"), text("/kind"));
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    if (group, kind) == ("", "List") && depth > 0 {
        return list(object, namespace, config, warn, depth - 1);
    }
    let known = MAKERS
        .iter()
        .find(|maker| maker.group == group && maker.kind == kind);
    let Some((maker, template)) =
        known.and_then(|maker| Some((maker, object.pointer(maker.template)?)))
    else {
        return Ok(Result::Unchanged);
    };
    let named = format!("{kind}/{}", text("/metadata/name"));
    let own = text("/metadata/namespace");
    let namespace = if own.is_empty() { namespace } else { own };
    let workload = Workload {
        name: text("/metadata/name").to_owned(),
        namespace: namespace.to_owned(),
        kind: kind.to_owned(),
        api_version: api_version.to_owned(),
    };
    let pod = json!({
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": template.get("metadata").cloned().unwrap_or_else(|| json!({})),
        "spec": template.get("spec"),
    });
    let request = Request {
        namespace,
        url_env: &[],
        workload: (maker.kind != "Pod").then_some(&workload),
    };
    let outcome = inject(&pod, &request, config).map_err(|refusal| Error {
        object: named.clone(),
        refusal,
    })?;
    match outcome {
        Outcome::Skipped { reason, warnings } => {
            warnings
                .into_iter()
                .for_each(|text| warn(format!("{named}: {text}")));
            warn(format!("{named} is not injected: {reason}"));
            Ok(Result::Unchanged)
        }
        Outcome::Injected(injected) => {
            let texts = injected.warnings.iter();
            texts.for_each(|text| warn(format!("{named}: {text}")));
            let mut changed = object.clone();
            if let Some(template) = changed
                .pointer_mut(maker.template)
                .and_then(Value::as_object_mut)
            {
                for member in ["metadata", "spec"] {
                    if let Some(value) = injected.pod.get(member) {
                        template.insert(member.to_owned(), value.clone());
                    }
                }
            }
            Ok(Result::Injected(Box::new(changed)))
        }
    }
}

fn list(
    object: &Value,
    namespace: &str,
    config: &Config,
    warn: &mut dyn FnMut(String),
    depth: usize,
) -> std::result::Result<Result, Error> {
    let mut changed = object.clone();
    let mut is_changed = false;
    let items = changed.get_mut("items").and_then(Value::as_array_mut);
    for item in items.into_iter().flatten() {
        if let Result::Injected(value) = at_depth(item, namespace, config, warn, depth)? {
            *item = *value;
            is_changed = true;
        }
    }
    Ok(if is_changed {
        Result::Injected(Box::new(changed))
    } else {
        Result::Unchanged
    })
}

#[cfg(test)]
mod tests;
