//! Client of the API server: connection, and lists of objects in pages.

use std::path::Path;

use anyhow::{Context as _, Result};
use k8s_openapi::NamespaceResourceScope;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ApiResource, DynamicObject, GroupVersionKind, ListParams};
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::Value;

/// Page size of lists: large enough to be fast, small enough for the memory.
const PAGE: u32 = 500;
/// How often a list is restarted when it expires while it is read.
const ATTEMPTS: usize = 3;

/// A client of a cluster.
#[derive(Clone)]
pub struct Cluster {
    client: Client,
    /// Namespace of the context.
    pub namespace: String,
}

impl std::fmt::Debug for Cluster {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Cluster")
            .field("namespace", &self.namespace)
            .finish_non_exhaustive()
    }
}

/// A kind in the API server.
#[derive(Debug, Clone, Copy)]
pub struct Kind<'a> {
    /// API group, empty for the core group.
    pub group: &'a str,
    /// Versions to try, the preferred one first.
    pub versions: &'a [&'a str],
    /// Kind.
    pub kind: &'a str,
    /// Plural.
    pub plural: &'a str,
}

/// Result of a list.
#[derive(Debug)]
pub enum Listed<T> {
    /// All objects.
    Read(T),
    /// The cluster does not know the kind.
    Unknown,
    /// The user may not list the kind.
    Forbidden,
}

impl Cluster {
    /// Prepares the connection to the cluster of a context. Nothing is sent yet.
    ///
    /// # Errors
    /// If no cluster is configured or the configuration is invalid.
    pub async fn connect(kubeconfig: Option<&Path>, context: Option<&str>) -> Result<Self> {
        mesh_common::process::install_crypto();
        let options = KubeConfigOptions {
            context: context.map(str::to_owned),
            ..KubeConfigOptions::default()
        };
        let config = match (kubeconfig, context) {
            (Some(path), _) => {
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("cannot read {}", path.display()))?;
                Config::from_custom_kubeconfig(file, &options)
                    .await
                    .with_context(|| format!("cannot use {}", path.display()))?
            }
            (None, Some(_)) => Config::from_kubeconfig(&options)
                .await
                .context("cannot find the context in the kubeconfig")?,
            (None, None) => Config::infer().await.context("no cluster is configured")?,
        };
        let namespace = config.default_namespace.clone();
        let client = Client::try_from(config).context("cannot create a client for the cluster")?;
        Ok(Self { client, namespace })
    }

    /// Reads an object; `None` if it does not exist.
    ///
    /// # Errors
    /// If the request fails.
    pub async fn get<T>(&self, namespace: &str, name: &str) -> Result<Option<T>>
    where
        T: k8s_openapi::Metadata<Ty = ObjectMeta>
            + kube::Resource<DynamicType = (), Scope = NamespaceResourceScope>
            + Clone
            + std::fmt::Debug
            + serde::de::DeserializeOwned,
    {
        Api::<T>::namespaced(self.client.clone(), namespace)
            .get_opt(name)
            .await
            .with_context(|| format!("cannot read {} {namespace}/{name}", T::kind(&())))
    }

    /// Reads all objects of a kind, in one namespace or all, page by page. Each attempt begins with
    /// `T::default()`.
    ///
    /// # Errors
    /// If a request fails or the response is invalid.
    pub async fn list<T: Default>(
        &self,
        kind: Kind<'_>,
        namespace: Option<&str>,
        mut each: impl FnMut(&mut T, Value),
    ) -> Result<Listed<T>> {
        for version in kind.versions {
            let kind_of_version = GroupVersionKind::gvk(kind.group, version, kind.kind);
            let resource = ApiResource::from_gvk_with_plural(&kind_of_version, kind.plural);
            let api: Api<DynamicObject> = match namespace {
                Some(namespace) => Api::namespaced_with(self.client.clone(), namespace, &resource),
                None => Api::all_with(self.client.clone(), &resource),
            };
            for attempt in 1..=ATTEMPTS {
                match pages(&api, &resource, &mut each).await {
                    Ok(all) => return Ok(Listed::Read(all)),
                    Err(kube::Error::Api(status)) if status.code == 404 => break,
                    Err(kube::Error::Api(status)) if status.code == 403 => {
                        return Ok(Listed::Forbidden);
                    }
                    // The list expired while it was read, so its continuation is no longer valid.
                    Err(kube::Error::Api(status)) if status.code == 410 && attempt < ATTEMPTS => {}
                    Err(error) => {
                        return Err(error).with_context(|| format!("cannot list {}", kind.plural));
                    }
                }
            }
        }
        Ok(Listed::Unknown)
    }
}

async fn pages<T: Default>(
    api: &Api<DynamicObject>,
    resource: &ApiResource,
    each: &mut impl FnMut(&mut T, Value),
) -> Result<T, kube::Error> {
    let mut all = T::default();
    let mut parameters = ListParams::default().limit(PAGE);
    loop {
        let page = api.list(&parameters).await?;
        for object in page.items {
            let mut value = serde_json::to_value(&object).map_err(kube::Error::SerdeError)?;
            // Elements of a list have no apiVersion and kind.
            if let Some(members) = value.as_object_mut() {
                members.insert(
                    "apiVersion".to_owned(),
                    resource.api_version.as_str().into(),
                );
                members.insert("kind".to_owned(), resource.kind.as_str().into());
            }
            each(&mut all, value);
        }
        match page.metadata.continue_.filter(|token| !token.is_empty()) {
            Some(token) => parameters = parameters.continue_token(&token),
            None => return Ok(all),
        }
    }
}
