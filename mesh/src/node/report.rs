//! What the node tells about the mesh: the contents of `mesh status --json`.

use std::net::Ipv4Addr;
use std::path::PathBuf;

use serde::{Deserialize, Serialize};

use crate::node::config::Published;
use crate::node::pod::status::{Phase, Role, State};

/// The whole mesh at one moment.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Status {
    /// Grows with each change; lets a client wait for the next one.
    pub generation: u64,
    /// Whether every wanted Pod runs and is ready, and no other one is left.
    pub settled: bool,
    /// Seconds since the node was started.
    pub uptime_seconds: f64,
    /// The directory that galley watches.
    pub objects: PathBuf,
    /// Addresses on the host.
    pub published: Vec<Published>,
    /// All Pods, control plane first, then by namespace and name.
    pub pods: Vec<PodReport>,
    /// The node itself; only with usage.
    pub node: Option<ProcessReport>,
}

/// One Pod.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PodReport {
    /// Namespace.
    pub namespace: String,
    /// Name.
    pub name: String,
    /// The Deployment or Pod object behind it.
    pub workload: String,
    /// Address.
    pub ip: Ipv4Addr,
    /// Whether it belongs to the control plane.
    pub control_plane: bool,
    /// Where it is in its life.
    pub phase: Phase,
    /// Whether it may receive traffic.
    pub ready: bool,
    /// What it waits for.
    pub reason: Option<String>,
    /// Whether it has a sidecar.
    pub injected: bool,
    /// Seconds since it was made.
    pub age_seconds: f64,
    /// Containers in order of start.
    pub containers: Vec<ContainerReport>,
}

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerReport {
    /// Name.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// What it does.
    pub state: State,
    /// Whether it is ready.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Exit code of the run before.
    pub last_code: Option<i32>,
    /// Its log.
    pub log: PathBuf,
    /// Its processes; only with usage.
    pub processes: Vec<ProcessReport>,
}

/// One process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ProcessReport {
    /// Pid as the node sees it.
    pub pid: i32,
    /// Program name, at most 15 letters.
    pub name: String,
    /// Resident memory in bytes.
    pub resident_bytes: u64,
    /// CPU time so far in seconds.
    pub cpu_seconds: f64,
}

impl Status {
    /// The Pods that `name` means: a Pod name, a Deployment name, or `namespace/name` of either.
    #[must_use]
    pub fn pods_named(&self, name: &str) -> Vec<&PodReport> {
        let (namespace, name) = match name.split_once('/') {
            Some((namespace, name)) => (Some(namespace), name),
            None => (None, name),
        };
        let live = || {
            self.pods.iter().filter(|pod| {
                pod.phase != Phase::Ended && namespace.is_none_or(|wanted| pod.namespace == wanted)
            })
        };
        let exact: Vec<&PodReport> = live().filter(|pod| pod.name == name).collect();
        if !exact.is_empty() {
            return exact;
        }
        let of_workload: Vec<&PodReport> = live()
            .filter(|pod| pod.workload == name && pod.phase != Phase::Terminating)
            .collect();
        if !of_workload.is_empty() {
            return of_workload;
        }
        live()
            .filter(|pod| {
                pod.name
                    .strip_prefix(name)
                    .is_some_and(|rest| rest.starts_with('-'))
            })
            .collect()
    }

    /// The one Pod that `name` means; of several replicas the first.
    ///
    /// # Errors
    /// When there is none; the text lists what there is.
    pub fn pod_named(&self, name: &str) -> anyhow::Result<&PodReport> {
        self.pods_named(name).first().copied().ok_or_else(|| {
            let known: Vec<String> = self
                .pods
                .iter()
                .map(|pod| format!("{}/{}", pod.namespace, pod.workload))
                .collect();
            anyhow::anyhow!(
                "no Pod or Deployment is named {name:?}; there are {}",
                known.join(", ")
            )
        })
    }
}

impl PodReport {
    /// The container `name`; without a name the first one that is not the proxy.
    ///
    /// # Errors
    /// When there is none; the text lists the names.
    pub fn container_named(&self, name: Option<&str>) -> anyhow::Result<&ContainerReport> {
        let found = match name {
            Some(name) => self.containers.iter().find(|each| each.name == name),
            None => self
                .containers
                .iter()
                .find(|each| each.role == Role::App && each.name != "istio-proxy")
                .or_else(|| self.containers.last()),
        };
        found.ok_or_else(|| {
            let names: Vec<&str> = self
                .containers
                .iter()
                .map(|each| each.name.as_str())
                .collect();
            anyhow::anyhow!(
                "Pod {} has no such container; it has {}",
                self.name,
                names.join(", ")
            )
        })
    }
}
