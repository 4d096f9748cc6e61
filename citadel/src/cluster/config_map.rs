//! Writes one key of a ConfigMap and preserves everything else in it.

use std::collections::BTreeMap;
use std::time::Duration;

use k8s_openapi::api::core::v1::ConfigMap;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::{Api, PostParams};
use mesh_common::kubeclient::Client;
use mesh_common::list_watch::Failure;
use mesh_common::owner::Owner;

/// Time limit of all requests for one ConfigMap.
const LIMIT: Duration = Duration::from_secs(20);

/// Label that Istio puts on ConfigMaps of its own.
const LABEL: (&str, &str) = ("istio.io/config", "true");

/// Desired content of a ConfigMap.
#[derive(Debug)]
pub(crate) struct Content {
    /// Name of the ConfigMap.
    pub(crate) name: String,
    pub(crate) key: &'static str,
    pub(crate) value: String,
    /// Whether a new ConfigMap gets the label.
    pub(crate) is_labelled: bool,
    /// Owner of a new ConfigMap.
    pub(crate) owner: Owner,
}

/// Why a ConfigMap was not written.
#[derive(Debug, thiserror::Error)]
pub(crate) enum PutError {
    /// The API server is unreachable.
    #[error("{0}")]
    Away(Failure),
    /// The ServiceAccount lacks permissions.
    #[error("{0}; the ServiceAccount needs the verbs get, create and update on ConfigMaps")]
    Forbidden(String),
    /// The namespace does not exist or is being deleted.
    #[error("the namespace does not exist or is being deleted")]
    NoNamespace,
    /// Concurrent modification.
    #[error("it was modified concurrently")]
    Conflict,
    /// The owner cannot be read.
    #[error("cannot read its owner (--owner-cluster-role): {0}")]
    NoOwner(Failure),
    /// Any other failure.
    #[error("{0}")]
    Other(Failure),
}

/// Writes the value unless it is there already. `is_there` is a hint that the ConfigMap exists.
/// Returns whether something was written.
pub(crate) async fn put(
    client: &Client,
    namespace: &str,
    content: &Content,
    is_there: bool,
) -> Result<bool, PutError> {
    let written = put_in(client, namespace, content, is_there);
    let written = tokio::time::timeout(LIMIT, written).await;
    // A timeout may concern this object only.
    written.unwrap_or(Err(PutError::Other(Failure::Silent)))
}

async fn put_in(
    client: &Client,
    namespace: &str,
    content: &Content,
    hint: bool,
) -> Result<bool, PutError> {
    let api: Api<ConfigMap> = Api::namespaced(client.clone(), namespace);
    let params = PostParams::default();
    // The hint may be outdated once.
    for is_there in [hint, !hint] {
        if !is_there {
            let mut new = changed(ConfigMap::default(), content);
            new.metadata.owner_references = owner(client, content).await?;
            match api.create(&params, &new).await {
                Ok(_) => return Ok(true),
                Err(kube::Error::Api(status)) if status.code == 409 => continue,
                Err(error) => return Err(error.into()),
            }
        }
        let Some(found) = api.get_opt(&content.name).await? else {
            continue;
        };
        if value(&found, content.key) == Some(&content.value) {
            return Ok(false);
        }
        let new = changed(found, content);
        api.replace(&content.name, &params, &new).await?;
        return Ok(true);
    }
    Err(PutError::Conflict)
}

async fn owner(
    client: &Client,
    content: &Content,
) -> Result<Option<Vec<OwnerReference>>, PutError> {
    let references = content.owner.references(client).await;
    references.map_err(|error| match Failure::from(error) {
        failure @ Failure::Unreachable(_) => PutError::Away(failure),
        failure => PutError::NoOwner(failure),
    })
}

fn value<'a>(map: &'a ConfigMap, key: &str) -> Option<&'a String> {
    map.data.as_ref()?.get(key)
}

fn changed(mut map: ConfigMap, content: &Content) -> ConfigMap {
    map.metadata.name = Some(content.name.clone());
    if content.is_labelled {
        let labels = map.metadata.labels.get_or_insert_with(BTreeMap::new);
        labels.insert(LABEL.0.to_owned(), LABEL.1.to_owned());
    }
    let data = map.data.get_or_insert_with(BTreeMap::new);
    data.insert(content.key.to_owned(), content.value.clone());
    map
}

impl From<kube::Error> for PutError {
    fn from(error: kube::Error) -> Self {
        if let kube::Error::Api(status) = &error {
            let causes = status.details.iter().flat_map(|details| &details.causes);
            let is_going = causes
                .into_iter()
                .any(|cause| cause.reason == "NamespaceTerminating");
            match status.code {
                _ if is_going => return Self::NoNamespace,
                401 | 403 => return Self::Forbidden(status.message.clone()),
                404 => return Self::NoNamespace,
                409 => return Self::Conflict,
                // An overloaded API server is treated like an unreachable one.
                429 | 502..=504 => return Self::Away(Failure::from(error)),
                _ => {}
            }
        }
        match Failure::from(error) {
            failure @ Failure::Unreachable(_) => Self::Away(failure),
            failure => Self::Other(failure),
        }
    }
}

#[cfg(test)]
mod tests {
    use kube::core::Status;
    use serde_json::{Value, json};

    use super::*;

    fn error(status: Value) -> PutError {
        let status: Status = serde_json::from_value(status).unwrap();
        kube::Error::Api(Box::new(status)).into()
    }

    #[test]
    fn refusals_are_told_apart() {
        let status =
            |code: u16| json!({"status": "Failure", "code": code, "message": "m", "reason": "r"});
        assert!(matches!(error(status(403)), PutError::Forbidden(_)));
        assert!(matches!(error(status(404)), PutError::NoNamespace));
        assert!(matches!(error(status(409)), PutError::Conflict));
        assert!(matches!(error(status(429)), PutError::Away(_)));
        assert!(matches!(error(status(503)), PutError::Away(_)));
        // May concern this object only, for example when an admission webhook fails.
        assert!(matches!(error(status(500)), PutError::Other(_)));
        assert!(matches!(error(status(422)), PutError::Other(_)));
        let mut going = status(403);
        going["details"] =
            json!({"causes": [{"reason": "NamespaceTerminating", "message": "m", "field": "f"}]});
        assert!(matches!(error(going), PutError::NoNamespace));
    }

    #[test]
    fn other_keys_and_labels_stay() {
        let found: ConfigMap = serde_json::from_value(json!({
            "metadata": {"name": "x", "labels": {"a": "b"}, "resourceVersion": "7"},
            "data": {"mine": "1", "key": "old"},
        }))
        .unwrap();
        let content = Content {
            name: "x".to_owned(),
            key: "key",
            value: "new".to_owned(),
            is_labelled: true,
            owner: Owner::default(),
        };
        let changed = serde_json::to_value(changed(found, &content)).unwrap();
        assert_eq!(changed["data"], json!({"mine": "1", "key": "new"}));
        assert_eq!(
            changed["metadata"]["labels"],
            json!({"a": "b", "istio.io/config": "true"})
        );
        assert_eq!(changed["metadata"]["resourceVersion"], "7");
    }
}
