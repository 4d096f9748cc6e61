//! Who owns what a process makes in a cluster: Kubernetes removes it together with its owner.

use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::OwnerReference;
use kube::api::Api;

use crate::args::OwnerArgs;
use crate::kubeclient::Client;

/// The owner by its name: a ClusterRole, as an object of a namespace cannot own others elsewhere.
#[derive(Clone, Debug, Default)]
pub struct Owner(Option<String>);

impl From<&OwnerArgs> for Owner {
    fn from(args: &OwnerArgs) -> Self {
        Self(Some(args.cluster_role.clone()).filter(|name| !name.is_empty()))
    }
}

impl Owner {
    /// What the metadata of an object says that is made now; nothing without an owner.
    ///
    /// Asked anew for each object: under an owner that is gone it would be removed at once.
    ///
    /// # Errors
    /// When there is an owner and the API server does not tell of it. The object must not be made
    /// then, as nobody would remove it.
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
