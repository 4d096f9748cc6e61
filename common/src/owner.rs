//! Owner of the objects that a process creates in a cluster: Kubernetes deletes them together with
//! it.

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::Api;

use crate::args::OwnerArgs;
use crate::kubeclient::Client;

/// The owner by name: a ClusterRole, as namespaced objects cannot own objects elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Owner(Option<String>);

impl From<&OwnerArgs> for Owner {
    fn from(args: &OwnerArgs) -> Self {
        Self(Some(args.cluster_role.clone()).filter(|name| !name.is_empty()))
    }
}

impl Owner {
    /// The owner references of an object that is about to be created; empty without an owner.
    ///
    /// Read again for each object: Kubernetes would at once delete an object whose owner is gone.
    ///
    /// # Errors
    /// If there is an owner and it cannot be read. The object must then not be created, as nothing
    /// would delete it.
    pub async fn references(&self, client: &Client) -> kube::Result<Option<Vec<OwnerReference>>> {
        let Some(name) = &self.0 else {
            return Ok(None);
        };
        let found = Api::<ClusterRole>::all(client.clone())
            .get_metadata(name)
            .await?;
        Ok(Some(vec![OwnerReference {
            api_version: "rbac.authorization.k8s.io/v1".to_owned(),
            kind: "ClusterRole".to_owned(),
            name: name.clone(),
            uid: found.metadata.uid.unwrap_or_default(),
            ..OwnerReference::default()
        }]))
    }
}
