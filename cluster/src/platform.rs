//! A mesh in a cluster, as tasks and load see it.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use futures::FutureExt as _;
use futures::future::BoxFuture;
use k8s_openapi::api::apps::v1::Deployment;
use k8s_openapi::api::core::v1::Pod as Object;
use kube::ResourceExt as _;
use kube::api::ListParams;
use mesh_common::args::KubeArgs;
use mesh_common::kubeclient;
use serde_json::Value;
use tokio::sync::OnceCell;

use crate::handle::Cluster;
use crate::kubectl::Client;
use crate::pod::{Pod, split};
use mesh::manifest::{Key, Source};
use mesh::platform::ExecOutput;
use mesh::platform::Platform;
use mesh::stream::Stream;
use mesh::wait::wait_until;

/// Owner of the fields that tasks set: what an apply leaves out that an earlier one set, goes.
const MANAGER: &str = "--field-manager=keelson-test";
/// What only the API server may set.
const SERVERS_OWN: [&str; 5] = [
    "creationTimestamp",
    "generation",
    "managedFields",
    "resourceVersion",
    "uid",
];

/// Runs something that waits for other programs.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    tokio::task::spawn_blocking(work)
        .await
        .context("a thread died")?
}

/// The mesh of a cluster.
#[derive(Debug)]
pub struct InCluster {
    cluster: Cluster,
    client: OnceCell<Api>,
}

/// The client, which has nothing to show.
struct Api(kubeclient::Client);

impl std::fmt::Debug for Api {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Api")
    }
}

impl InCluster {
    /// Of a cluster that is up. It belongs to the runtime that first uses it.
    #[must_use]
    pub fn new(cluster: Cluster) -> Self {
        Self {
            cluster,
            client: OnceCell::new(),
        }
    }

    /// A running Pod by its name or its Deployment's.
    ///
    /// # Errors
    /// When there is none.
    pub async fn pod(&self, name: &str) -> Result<Pod> {
        Pod::find(self.client().await?, name).await
    }

    /// Kubernetes itself: a program for each question would take longer than most answers.
    async fn client(&self) -> Result<&kubeclient::Client> {
        let made = self.client.get_or_try_init(|| async {
            let kubeconfig = self.cluster.layout().kubeconfig();
            let args = KubeArgs {
                kubeconfig: kubeconfig.display().to_string(),
            };
            let config = kubeclient::config(&args, "e2e").await?;
            anyhow::Ok(Api(kubeclient::client(config)?))
        });
        Ok(&made.await?.0)
    }
}

impl Platform for InCluster {
    fn apply<'a>(&'a self, sources: &'a [Source]) -> BoxFuture<'a, Result<()>> {
        let (kubectl, text) = (self.cluster.kubectl(), join(sources));
        blocking(move || apply(&kubectl, &text)).boxed()
    }

    fn delete<'a>(&'a self, sources: &'a [Source]) -> BoxFuture<'a, Result<()>> {
        let (kubectl, text) = (self.cluster.kubectl(), join(sources));
        blocking(move || {
            if text.trim().is_empty() {
                return Ok(());
            }
            let arguments = ["delete", "--ignore-not-found", "--wait=true", "-f", "-"];
            kubectl.feed(&arguments, &text).map(drop)
        })
        .boxed()
    }

    fn object<'a>(&'a self, key: &'a Key) -> BoxFuture<'a, Result<Option<Value>>> {
        let kubectl = self.cluster.kubectl();
        let kind = if key.group.is_empty() {
            key.kind.clone()
        } else {
            format!("{}.{}", key.kind, key.group)
        };
        let (namespace, name) = (key.namespace.clone(), key.name.clone());
        blocking(move || {
            let mut arguments = vec!["get", &kind, &name, "--ignore-not-found", "-o", "json"];
            if !namespace.is_empty() {
                arguments.extend(["--namespace", &namespace]);
            }
            let text = kubectl.run(&arguments)?;
            if text.trim().is_empty() {
                return Ok(None);
            }
            let mut object: Value = serde_json::from_str(&text).context("understand an object")?;
            forget(&mut object);
            Ok(Some(object))
        })
        .boxed()
    }

    fn rewrite<'a>(
        &'a self,
        key: &'a Key,
        from: &'a str,
        into: &'a str,
    ) -> BoxFuture<'a, Result<Instant>> {
        async move {
            let object = self.object(key).await?;
            let object = object.with_context(|| format!("{key} is not there"))?;
            let text = serde_yaml::to_string(&object).context("encode an object")?;
            ensure!(text.contains(from), "{key} has no {from:?}");
            let kubectl = self.cluster.kubectl();
            let changed = text.replace(from, into);
            let begun = Instant::now();
            blocking(move || apply(&kubectl, &changed)).await?;
            Ok(begun)
        }
        .boxed()
    }

    fn settle(&self, limit: Duration) -> BoxFuture<'_, Result<()>> {
        wait_until("all Pods ready", limit, move || async {
            settled(self.client().await?).await
        })
        .boxed()
    }

    fn dial<'a>(&'a self, pod: &'a str, to: &'a str) -> BoxFuture<'a, Result<Stream>> {
        let to = to.to_owned();
        async move {
            let found = Pod::find(self.client().await?, pod).await?;
            let stream = blocking(move || found.connect(&to)).await?;
            stream.set_nonblocking(true).context("prepare a socket")?;
            let stream = tokio::net::TcpStream::from_std(stream).context("prepare a socket")?;
            Ok(Stream::Host(stream))
        }
        .boxed()
    }

    fn exec<'a>(
        &'a self,
        pod: &'a str,
        container: Option<&'a str>,
        command: &'a [&'a str],
        limit: Duration,
    ) -> BoxFuture<'a, Result<ExecOutput>> {
        let kubectl = self.cluster.kubectl();
        async move {
            let found = Pod::find(self.client().await?, pod).await?;
            let mut line = vec!["exec", "--namespace", &found.namespace, &found.name];
            if let Some(container) = container {
                line.extend(["--container", container]);
            }
            line.push("--");
            line.extend(command);
            let mut exec = tokio::process::Command::from(kubectl.command());
            exec.args(line)
                .stdin(std::process::Stdio::null())
                .kill_on_drop(true);
            let output = tokio::time::timeout(limit, exec.output())
                .await
                .with_context(|| format!("{command:?} in {pod}: no end within {limit:?}"))?
                .context("start kubectl")?;
            Ok(ExecOutput {
                code: mesh::node::exec::exit_code(output.status),
                stdout: String::from_utf8_lossy(&output.stdout).into_owned(),
                stderr: String::from_utf8_lossy(&output.stderr).into_owned(),
            })
        }
        .boxed()
    }

    /// Its ClusterIP: the host has a way to Services.
    fn published_url<'a>(&'a self, service: &'a str, port: u16) -> BoxFuture<'a, Result<String>> {
        let kubectl = self.cluster.kubectl();
        let (namespace, name) = split(service);
        blocking(move || {
            let address = kubectl.run(&[
                "get",
                "service",
                &name,
                "--namespace",
                &namespace,
                "-o",
                "jsonpath={.spec.clusterIP}",
            ])?;
            ensure!(
                !address.is_empty() && address != "None",
                "Service {namespace}/{name} has no address"
            );
            let scheme = if port == 443 { "https" } else { "http" };
            Ok(format!("{scheme}://{address}:{port}"))
        })
        .boxed()
    }
}

fn join(sources: &[Source]) -> String {
    let texts: Vec<&str> = sources.iter().map(|source| source.text.as_str()).collect();
    texts.join("\n---\n")
}

fn apply(kubectl: &Client, text: &str) -> Result<()> {
    if text.trim().is_empty() {
        return Ok(());
    }
    let arguments = [
        "apply",
        "--server-side",
        "--force-conflicts",
        MANAGER,
        "-f",
        "-",
    ];
    kubectl.feed(&arguments, text).map(drop)
}

/// Removes from an object what was not written by whoever applied it.
fn forget(object: &mut Value) {
    let Some(object) = object.as_object_mut() else {
        return;
    };
    object.remove("status");
    if let Some(metadata) = object.get_mut("metadata").and_then(Value::as_object_mut) {
        for field in SERVERS_OWN {
            metadata.remove(field);
        }
    }
}

/// Whether Deployments have the Pods that they should, all of them ready and no others.
async fn settled(client: &kubeclient::Client) -> Result<()> {
    let all = ListParams::default();
    let deployments = kube::Api::<Deployment>::all(client.clone());
    for deployment in deployments.list(&all).await.context("list Deployments")? {
        let name = deployment.name_any();
        let wanted = deployment.spec.and_then(|spec| spec.replicas).unwrap_or(1);
        let status = deployment.status.unwrap_or_default();
        let is_current = status.observed_generation >= deployment.metadata.generation;
        let counts = [
            status.replicas,
            status.updated_replicas,
            status.available_replicas,
        ]
        .map(Option::unwrap_or_default);
        ensure!(
            is_current && counts.iter().all(|count| *count == wanted),
            "Deployment {name} has {counts:?} of {wanted} Pods (all, new, available)"
        );
    }
    let pods = kube::Api::<Object>::all(client.clone());
    for pod in pods.list(&all).await.context("list Pods")? {
        let name = pod.name_any();
        let phase = pod
            .status
            .and_then(|status| status.phase)
            .unwrap_or_default();
        ensure!(
            matches!(phase.as_str(), "Running" | "Succeeded"),
            "Pod {name} is {phase}"
        );
    }
    Ok(())
}
