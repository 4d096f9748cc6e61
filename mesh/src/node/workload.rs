//! From Deployments and Pod objects to the Pods that should run. Pure.

use anyhow::{Context as _, Result};
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference};
use serde_json::Value;
use sha2::{Digest as _, Sha256};

use crate::manifest::Key;

/// Label with the hash of the template.
pub const TEMPLATE_HASH: &str = "pod-template-hash";
/// Letters of generated names, as Kubernetes uses them: no vowels, nothing to misread.
const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";

/// What one Deployment or Pod object asks for.
#[derive(Clone, Debug)]
pub struct Workload {
    /// The object.
    pub key: Key,
    /// Changes with the template: Pods with another hash are replaced.
    pub hash: String,
    /// How many Pods.
    pub replicas: usize,
    /// The Pod, without name and UID when a Deployment made it.
    pub template: Pod,
}

fn letters(bytes: impl IntoIterator<Item = u8>) -> String {
    bytes
        .into_iter()
        .filter_map(|byte| LETTERS.get(usize::from(byte) % LETTERS.len()))
        .map(|letter| char::from(*letter))
        .collect()
}

fn hash(value: &impl serde::Serialize) -> Result<String> {
    let text = serde_json::to_vec(value).context("encode the template")?;
    Ok(letters(Sha256::digest(text).into_iter().take(10)))
}

/// Five random letters for the end of a Pod's name.
#[must_use]
pub fn suffix() -> String {
    letters(rand::random::<[u8; 5]>())
}

/// A random UID in the form of a UUID.
#[must_use]
pub fn uid() -> String {
    let [a, b, c, d] = rand::random::<[u32; 4]>();
    format!(
        "{a:08x}-{:04x}-4{:03x}-8{:03x}-{:04x}{d:08x}",
        b >> 16,
        b & 0xfff,
        (c >> 16) & 0xfff,
        c & 0xffff
    )
}

/// Reads a Deployment or a Pod.
///
/// # Errors
/// When the object does not have the form of its kind; the text names the object.
pub fn read(key: &Key, object: &Value) -> Result<Workload> {
    let workload = match key.kind.as_str() {
        "Deployment" => serde_json::from_value(object.clone())
            .map_err(anyhow::Error::from)
            .and_then(|deployment| of_deployment(key, deployment)),
        _ => serde_json::from_value::<Pod>(object.clone())
            .map_err(anyhow::Error::from)
            .and_then(|pod| {
                let hash = hash(&pod)?;
                Ok(Workload {
                    key: key.clone(),
                    hash,
                    replicas: 1,
                    template: pod,
                })
            }),
    };
    workload.with_context(|| key.to_string())
}

fn of_deployment(key: &Key, deployment: Deployment) -> Result<Workload> {
    let spec = deployment.spec.context("spec is missing")?;
    let replicas =
        usize::try_from(spec.replicas.unwrap_or(1)).context("spec.replicas is negative")?;
    let metadata = spec.template.metadata.clone().unwrap_or_default();
    let selected = spec
        .selector
        .match_labels
        .iter()
        .flatten()
        .all(|(name, value)| {
            metadata.labels.as_ref().and_then(|labels| labels.get(name)) == Some(value)
        });
    anyhow::ensure!(
        selected,
        "spec.selector does not match spec.template.metadata.labels"
    );
    let pod_spec = spec
        .template
        .spec
        .clone()
        .context("spec.template.spec is missing")?;
    anyhow::ensure!(
        !pod_spec.containers.is_empty(),
        "spec.template.spec.containers is empty"
    );
    let hash = hash(&spec.template)?;
    let mut labels = metadata.labels.unwrap_or_default();
    labels.insert(TEMPLATE_HASH.to_owned(), hash.clone());
    let replica_set = format!("{}-{hash}", key.name);
    let template = Pod {
        metadata: ObjectMeta {
            generate_name: Some(format!("{replica_set}-")),
            namespace: Some(key.namespace.clone()),
            labels: Some(labels),
            annotations: metadata.annotations,
            owner_references: Some(vec![OwnerReference {
                api_version: "apps/v1".to_owned(),
                kind: "ReplicaSet".to_owned(),
                name: replica_set.clone(),
                uid: replica_set,
                controller: Some(true),
                block_owner_deletion: Some(true),
            }]),
            ..ObjectMeta::default()
        },
        spec: Some(pod_spec),
        ..Pod::default()
    };
    Ok(Workload {
        key: key.clone(),
        hash,
        replicas,
        template,
    })
}

impl Workload {
    /// A Pod with a name and a UID of its own.
    #[must_use]
    pub fn pod(&self) -> Pod {
        let mut pod = self.template.clone();
        let generated = pod.metadata.generate_name.as_ref();
        pod.metadata.name = generated
            .map(|prefix| format!("{prefix}{}", suffix()))
            .or_else(|| Some(self.key.name.clone()));
        pod.metadata.uid = Some(uid());
        let spec = pod.spec.get_or_insert_default();
        spec.node_name = Some(super::NODE_NAME.to_owned());
        spec.service_account_name
            .get_or_insert_with(|| "default".to_owned());
        pod
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn deployment(image: &str) -> Value {
        json!({
            "apiVersion": "apps/v1", "kind": "Deployment",
            "metadata": {"name": "web", "namespace": "shop"},
            "spec": {
                "replicas": 2,
                "selector": {"matchLabels": {"app": "web"}},
                "template": {
                    "metadata": {"labels": {"app": "web"}},
                    "spec": {"containers": [{"name": "c", "image": image}]},
                },
            },
        })
    }

    #[test]
    fn pods_of_a_deployment_have_names_labels_and_an_owner_as_on_a_cluster() {
        let object = deployment("a");
        let workload = read(&Key::of(&object).unwrap(), &object).unwrap();
        let pod = workload.pod();
        let name = pod.metadata.name.unwrap();
        assert!(
            name.starts_with(&format!("web-{}-", workload.hash)),
            "{name}"
        );
        assert_eq!(pod.metadata.labels.unwrap()[TEMPLATE_HASH], workload.hash);
        assert_eq!(
            pod.metadata.owner_references.unwrap()[0].name,
            format!("web-{}", workload.hash)
        );
        assert_eq!(workload.replicas, 2);
    }

    #[test]
    fn the_hash_follows_the_template_only() {
        let hash = |object: &Value| read(&Key::of(object).unwrap(), object).unwrap().hash;
        let mut scaled = deployment("a");
        scaled["spec"]["replicas"] = json!(5);
        assert_eq!(hash(&deployment("a")), hash(&scaled));
        assert_ne!(hash(&deployment("a")), hash(&deployment("b")));
    }

    #[test]
    fn errors_name_the_object() {
        let mut object = deployment("a");
        object["spec"]["selector"]["matchLabels"]["app"] = json!("other");
        let error = read(&Key::of(&object).unwrap(), &object).unwrap_err();
        assert!(
            format!("{error:#}").starts_with("Deployment shop/web: spec.selector does not match")
        );
        let mut object = deployment("a");
        object["spec"]["replicas"] = json!("two");
        assert!(read(&Key::of(&object).unwrap(), &object).is_err());
    }

    #[test]
    fn uids_have_the_form_of_a_uuid() {
        let uid = uid();
        let lengths: Vec<usize> = uid.split('-').map(str::len).collect();
        assert_eq!(lengths, [8, 4, 4, 4, 12], "{uid}");
    }
}
