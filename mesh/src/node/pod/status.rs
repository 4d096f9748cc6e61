//! What a Pod reports about itself.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::SystemTime;

use k8s_openapi::api::core::v1::Pod;
use serde::{Deserialize, Serialize};
use tokio::sync::{Notify, watch};

use crate::node::sandbox::Sandbox;

/// What a container is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Role {
    /// Runs to its end before the next one starts.
    Init,
    /// An init container that stays (`restartPolicy: Always`).
    Sidecar,
    /// An ordinary container.
    App,
}

/// What a container does at the moment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is")]
pub enum State {
    /// Not started, or between two starts.
    Waiting {
        /// Why.
        reason: String,
    },
    /// Started.
    Running {
        /// Main process, as the node sees it.
        pid: i32,
        /// Since when.
        since: SystemTime,
    },
    /// Ended and not started again.
    Ended {
        /// Exit code, 128 + signal for a killed process.
        code: i32,
    },
}

/// One container.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct ContainerStatus {
    /// Name in the Pod.
    pub name: String,
    /// What it is for.
    pub role: Role,
    /// What it does.
    pub state: State,
    /// Whether its startup probe, or having been started, allows what follows it.
    pub started: bool,
    /// Whether its readiness probe agrees.
    pub ready: bool,
    /// How often it was started again.
    pub restarts: u32,
    /// Exit code of the run before, if any.
    pub last_code: Option<i32>,
}

/// Where a Pod is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Phase {
    /// Being set up.
    Pending,
    /// All containers were started.
    Running,
    /// Being ended.
    Terminating,
    /// All containers have ended.
    Ended,
}

/// One Pod.
#[derive(Clone, Debug)]
pub struct PodStatus {
    /// Where it is in its life.
    pub phase: Phase,
    /// What it waits for, if anything.
    pub reason: Option<String>,
    /// The Pod as injected; as applied until then.
    pub pod: Arc<Pod>,
    /// Its namespaces, once made.
    pub sandbox: Option<Sandbox>,
    /// Its containers, in order of start.
    pub containers: Vec<ContainerStatus>,
    /// When it was made.
    pub created: SystemTime,
    /// Its address.
    pub ip: Ipv4Addr,
}

impl PodStatus {
    /// Whether it may receive traffic.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.phase == Phase::Running
            && self
                .containers
                .iter()
                .all(|container| container.role == Role::Init || container.ready)
    }

    /// The container `name`.
    #[must_use]
    pub fn container(&self, name: &str) -> Option<&ContainerStatus> {
        self.containers
            .iter()
            .find(|container| container.name == name)
    }

    /// Pid of the main process of `name`, while it runs.
    #[must_use]
    pub fn pid(&self, name: &str) -> Option<i32> {
        match self.container(name)?.state {
            State::Running { pid, .. } => Some(pid),
            _ => None,
        }
    }
}

/// Publishes the status and wakes the controller at each change.
#[derive(Clone, Debug)]
pub struct Reporter {
    status: Arc<watch::Sender<PodStatus>>,
    changed: Arc<Notify>,
}

impl Reporter {
    /// Starts with `status`; `changed` is notified after each change.
    #[must_use]
    pub fn new(status: PodStatus, changed: Arc<Notify>) -> Self {
        Self {
            status: Arc::new(watch::Sender::new(status)),
            changed,
        }
    }

    /// A view that follows the changes.
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<PodStatus> {
        self.status.subscribe()
    }

    /// The present status.
    #[must_use]
    pub fn get(&self) -> PodStatus {
        self.status.borrow().clone()
    }

    /// Changes the status.
    pub fn update(&self, change: impl FnOnce(&mut PodStatus)) {
        self.status.send_modify(change);
        self.changed.notify_one();
    }

    /// Changes the status of one container.
    pub fn container(&self, name: &str, change: impl FnOnce(&mut ContainerStatus)) {
        self.update(|status| {
            if let Some(container) = status.containers.iter_mut().find(|each| each.name == name) {
                change(container);
            }
        });
    }
}
