//! A Pod of the cluster and the way into its namespaces.

use std::ffi::OsStr;
use std::fs::File;
use std::net::TcpStream;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::Command;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::Pod as Object;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use kube::api::{Api, ListParams};
use mesh_common::kubeclient::Client;
use nix::sched::{CloneFlags, setns, unshare};

/// Namespace and name of `namespace/name`; the namespace is `default` when it is left out.
pub(crate) fn split(name: &str) -> (String, String) {
    let (namespace, name) = name.split_once('/').unwrap_or(("default", name));
    (namespace.to_owned(), name.to_owned())
}

/// A running Pod.
#[derive(Clone, Debug)]
pub struct Pod {
    /// Its namespace.
    pub namespace: String,
    /// Its own name.
    pub name: String,
    uid: String,
}

impl Pod {
    /// The newest running Pod with this name, or of the Deployment with this name.
    ///
    /// # Errors
    /// When there is none.
    pub async fn find(client: &Client, name: &str) -> Result<Self> {
        let (namespace, name) = split(name);
        let api: Api<Object> = Api::namespaced(client.clone(), &namespace);
        let all = api
            .list(&ListParams::default())
            .await
            .context("list Pods")?;
        all.items
            .into_iter()
            .filter(|pod| is_running(pod) && is_called(&pod.metadata, &name))
            .max_by_key(|pod| pod.metadata.creation_timestamp.clone())
            .map(|pod| Self {
                namespace: namespace.clone(),
                name: pod.metadata.name.unwrap_or_default(),
                uid: pod.metadata.uid.unwrap_or_default(),
            })
            .with_context(|| format!("no Pod of {namespace}/{name} runs"))
    }

    /// Connects to `HOST:PORT` as a process of the Pod would: with its network and its resolver.
    ///
    /// # Errors
    /// When the Pod is gone, the name does not resolve or nobody listens.
    pub fn connect(&self, to: &str) -> Result<TcpStream> {
        let process = self.process()?;
        let open = |kind: &str| {
            let path = format!("/proc/{process}/ns/{kind}");
            File::open(&path).with_context(|| format!("open {path}"))
        };
        let (net, mnt) = (open("net")?, open("mnt")?);
        let to = to.to_owned();
        // Namespaces belong to threads, so that a thread of its own enters them.
        std::thread::spawn(move || {
            unshare(CloneFlags::CLONE_FS).context("leave the shared working directory")?;
            setns(&net, CloneFlags::CLONE_NEWNET).context("enter the Pod's network")?;
            setns(&mnt, CloneFlags::CLONE_NEWNS).context("enter the Pod's files")?;
            TcpStream::connect(&to).with_context(|| format!("connect to {to}"))
        })
        .join()
        .map_err(|_| anyhow::anyhow!("the thread in the Pod panicked"))?
    }

    /// A command of the container in which a program called `word` runs, with its files and the
    /// Pod's network. Unlike `kubectl exec` it needs neither API server nor kubelet.
    ///
    /// # Errors
    /// When no such program runs.
    pub fn command(&self, word: &str) -> Result<Command> {
        let is_called = |pid: &u32| {
            let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            let first = line.split(|byte| *byte == 0).next().unwrap_or_default();
            Path::new(OsStr::from_bytes(first)).file_name() == Some(OsStr::new(word))
        };
        let pid = self
            .processes()?
            .into_iter()
            .find(is_called)
            .with_context(|| format!("no {word} runs in {}/{}", self.namespace, self.name))?;
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={pid}"))
            .args(["--mount", "--net", "--"]);
        Ok(command)
    }

    fn process(&self) -> Result<u32> {
        self.processes()?
            .first()
            .copied()
            .with_context(|| format!("no process of Pod {}/{} runs", self.namespace, self.name))
    }

    /// The Pod's processes, as the host sees them: those in a control group that has its uid.
    fn processes(&self) -> Result<Vec<u32>> {
        let group = format!("pod{}/", self.uid);
        let all = std::fs::read_dir("/proc").context("read /proc")?;
        Ok(all
            .flatten()
            .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
            .filter(|pid: &u32| {
                std::fs::read_to_string(format!("/proc/{pid}/cgroup"))
                    .is_ok_and(|groups| groups.contains(&group))
            })
            .collect())
    }
}

fn is_running(pod: &Object) -> bool {
    let phase = pod
        .status
        .as_ref()
        .and_then(|status| status.phase.as_deref());
    phase == Some("Running") && pod.metadata.deletion_timestamp.is_none()
}

/// Pods of a Deployment are called `<deployment>-<hash>-<random>`.
fn is_called(metadata: &ObjectMeta, name: &str) -> bool {
    let own = metadata.name.as_deref().unwrap_or_default();
    let labels = metadata.labels.as_ref();
    let hash = labels.and_then(|labels| labels.get("pod-template-hash"));
    own == name || hash.is_some_and(|hash| own.starts_with(&format!("{name}-{hash}-")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pod_is_found_by_its_deployment() {
        let pod = ObjectMeta {
            name: Some("reviews-v1-5d9c-x7k2p".to_owned()),
            labels: Some([("pod-template-hash".to_owned(), "5d9c".to_owned())].into()),
            ..ObjectMeta::default()
        };
        assert!(is_called(&pod, "reviews-v1"));
        assert!(is_called(&pod, "reviews-v1-5d9c-x7k2p"));
        assert!(!is_called(&pod, "reviews"));
    }
}
