//! The workload of a Pod, derived from its owner.

use crate::pod;
use serde_json::Value;

/// Name and kind of a workload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Workload {
    /// Name, without the suffixes that controllers append.
    pub name: String,
    /// Namespace.
    pub namespace: String,
    /// Kind, such as `Deployment`.
    pub kind: String,
    /// API version, such as `apps/v1`.
    pub api_version: String,
}

impl Workload {
    /// Finds the workload: the controller of the Pod, the owner implied by that controller's name,
    /// or the Pod itself.
    pub fn of(pod: &Value, namespace: &str) -> Self {
        let metadata = pod.get("metadata");
        let text = |value: Option<&Value>, member: &str| {
            value
                .and_then(|v| v.get(member))
                .and_then(Value::as_str)
                .unwrap_or_default()
                .to_owned()
        };
        let workload = |name: String, kind: &str, api_version: &str| Self {
            name,
            namespace: namespace.to_owned(),
            kind: kind.to_owned(),
            api_version: api_version.to_owned(),
        };
        let name = text(metadata, "name");
        let generate_name = text(metadata, "generateName");
        let owner = metadata
            .and_then(|metadata| metadata.get("ownerReferences"))
            .and_then(Value::as_array)
            .into_iter()
            .flatten()
            .find(|owner| owner.get("controller").and_then(Value::as_bool) == Some(true));
        let (Some(owner), false) = (owner, generate_name.is_empty()) else {
            let prefix = generate_name.trim_end_matches('-').to_owned();
            return workload(if name.is_empty() { prefix } else { name }, "Pod", "v1");
        };
        let (kind, api_version, name) = (
            text(Some(owner), "kind"),
            text(Some(owner), "apiVersion"),
            text(Some(owner), "name"),
        );
        let without_hash = |label: &str| {
            let hash = pod::label(pod, label)?;
            name.strip_suffix(hash)?
                .strip_suffix('-')
                .map(str::to_owned)
        };
        match kind.as_str() {
            "ReplicaSet" => {
                if let Some(name) = without_hash("rollouts-pod-template-hash") {
                    return workload(name, "Rollout", "v1alpha1");
                }
                if let Some(name) = without_hash("pod-template-hash") {
                    return workload(name, "Deployment", &api_version);
                }
            }
            "ReplicationController" => {
                if let Some(name) = pod::label(pod, "deploymentconfig") {
                    return workload(name.to_owned(), "DeploymentConfig", &api_version);
                }
            }
            "Job" => {
                if let Some((name, time)) = name.rsplit_once('-') {
                    let digits = time.bytes().all(|b| b.is_ascii_digit());
                    if digits && (8..=10).contains(&time.len()) {
                        return workload(name.to_owned(), "CronJob", "batch/v1");
                    }
                }
            }
            _ => {}
        }
        workload(name, &kind, &api_version)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(labels: Value, kind: &str, api: &str, owner: &str) -> (String, String, String) {
        let pod = json!({"metadata": {"generateName": "x-", "labels": labels, "ownerReferences": [
            {"kind": "Other", "name": "o"},
            {"kind": kind, "apiVersion": api, "name": owner, "controller": true}]}});
        let w = Workload::of(&pod, "shop");
        (w.name, w.kind, w.api_version)
    }

    fn expect(name: &str, kind: &str, api: &str) -> (String, String, String) {
        (name.to_owned(), kind.to_owned(), api.to_owned())
    }

    #[test]
    fn controllers_lead_to_what_stands_behind_them() {
        let hash = json!({"pod-template-hash": "7d9f"});
        assert_eq!(
            of(hash.clone(), "ReplicaSet", "apps/v1", "web-7d9f"),
            expect("web", "Deployment", "apps/v1")
        );
        assert_eq!(
            of(hash, "ReplicaSet", "apps/v1", "web"),
            expect("web", "ReplicaSet", "apps/v1")
        );
        let rollout = json!({"rollouts-pod-template-hash": "5c"});
        assert_eq!(
            of(rollout, "ReplicaSet", "apps/v1", "web-5c"),
            expect("web", "Rollout", "v1alpha1")
        );
        let config = json!({"deploymentconfig": "dc"});
        assert_eq!(
            of(config, "ReplicationController", "v1", "dc-1"),
            expect("dc", "DeploymentConfig", "v1")
        );
        let none = json!({});
        assert_eq!(
            of(none.clone(), "Job", "batch/v1", "nightly-28500000"),
            expect("nightly", "CronJob", "batch/v1")
        );
        assert_eq!(
            of(none.clone(), "Job", "batch/v1", "once-1"),
            expect("once-1", "Job", "batch/v1")
        );
        assert_eq!(
            of(none, "StatefulSet", "apps/v1", "db"),
            expect("db", "StatefulSet", "apps/v1")
        );
    }

    #[test]
    fn pod_of_its_own_is_its_workload() {
        let w = Workload::of(&json!({"metadata": {"name": "batch"}}), "shop");
        assert_eq!(
            (w.name.as_str(), w.kind.as_str(), w.api_version.as_str()),
            ("batch", "Pod", "v1")
        );
        let w = Workload::of(&json!({"metadata": {"generateName": "web-"}}), "shop");
        assert_eq!(w.name, "web");
    }
}
