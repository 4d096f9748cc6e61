//! A Pod: from its admission to its end, in a task of its own.

pub mod container;
pub mod env;
mod preparation;
pub mod probe;
pub mod single_id;
pub mod status;
mod termination;
pub mod volume;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Result;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::sleep;

use self::container::{Supervisor, Wish};
use self::env::Facts;
use self::status::{Phase, PodStatus, Reporter, Role, State};
use self::volume::{Namespaced, Volumes};
use super::sandbox::Sandbox;
use super::token::Subject;
use super::{Context, NODE_NAME, network};

/// Pause between two tries of a step that waits for something outside, when no event tells.
const RETRY: Duration = Duration::from_millis(500);

/// The surroundings of a Pod's containers.
#[derive(Clone, Debug)]
pub struct Environment {
    /// The node.
    pub context: Arc<Context>,
    /// Who the Pod is.
    pub subject: Subject,
    /// Its address.
    pub ip: Ipv4Addr,
}

impl Environment {
    /// Calls `work` with the Pod's volumes and facts.
    ///
    /// # Errors
    /// Those of `work`.
    pub fn with_volumes<T>(
        &self,
        pod: &Pod,
        work: impl FnOnce(&Volumes<'_>) -> Result<T>,
    ) -> Result<T> {
        let facts = Facts {
            metadata: &pod.metadata,
            service_account: &self.subject.service_account,
            node_name: NODE_NAME,
            pod_ip: self.ip,
            host_ip: network::NODE_IP,
            cpus: self.context.cpus,
        };
        work(&Volumes {
            layout: &self.context.layout,
            values: Namespaced {
                store: &self.context.store,
                namespace: &self.subject.namespace,
            },
            issuer: &self.context.issuer,
            subject: self.subject.clone(),
            facts,
        })
    }
}

/// What the controller asks of a Pod.
#[derive(Debug)]
pub enum Order {
    /// End it, in order.
    Terminate,
    /// ConfigMaps or Secrets have changed.
    RefreshVolumes,
}

/// The controller's side of a Pod.
#[derive(Debug)]
pub struct Handle {
    /// What it is doing.
    pub status: watch::Receiver<PodStatus>,
    /// Where orders go.
    pub orders: mpsc::Sender<Order>,
}

struct Member {
    container: Container,
    role: Role,
    wish: watch::Sender<Wish>,
    task: JoinHandle<()>,
}

struct PodTask {
    environment: Environment,
    reporter: Reporter,
    index: u64,
    members: Vec<Member>,
}

/// Starts the task of a Pod. `pod` has name, namespace and UID; `index` is unique among the
/// node's Pods.
#[must_use]
pub fn start(context: Arc<Context>, pod: Pod, ip: Ipv4Addr, index: u64) -> Handle {
    let text = |value: &Option<String>| value.clone().unwrap_or_default();
    let account = pod
        .spec
        .as_ref()
        .and_then(|spec| spec.service_account_name.clone());
    let subject = Subject {
        namespace: text(&pod.metadata.namespace),
        service_account: account
            .filter(|name| !name.is_empty())
            .unwrap_or_else(|| "default".to_owned()),
        pod: text(&pod.metadata.name),
        pod_uid: text(&pod.metadata.uid),
    };
    let status = PodStatus {
        phase: Phase::Pending,
        reason: None,
        pod: Arc::new(pod),
        sandbox: None,
        containers: Vec::new(),
        created: SystemTime::now(),
        ip,
    };
    let reporter = Reporter::new(status, Arc::clone(&context.changed));
    let (orders, received) = mpsc::channel(16);
    let handle = Handle {
        status: reporter.subscribe(),
        orders,
    };
    let environment = Environment {
        context,
        subject,
        ip,
    };
    let task = PodTask {
        environment,
        reporter,
        index,
        members: Vec::new(),
    };
    tokio::spawn(task.run(received));
    handle
}

impl PodTask {
    async fn run(mut self, mut orders: mpsc::Receiver<Order>) {
        let terminated = {
            let started = self.bring_up();
            tokio::pin!(started);
            loop {
                tokio::select! {
                    () = &mut started => break false,
                    order = orders.recv() => match order {
                        // Volumes are not mounted yet, or are filled again before each start.
                        Some(Order::RefreshVolumes) => {}
                        Some(Order::Terminate) | None => break true,
                    },
                }
            }
        };
        if !terminated {
            self.reporter
                .update(|status| (status.phase, status.reason) = (Phase::Running, None));
            self.stay(&mut orders).await;
        }
        self.terminate().await;
        self.reporter.update(|status| {
            (status.phase, status.sandbox) = (Phase::Ended, None);
        });
        let directory = self
            .environment
            .context
            .layout
            .pod(&self.environment.subject.pod_uid);
        if let Err(error) = std::fs::remove_dir_all(&directory)
            && error.kind() != std::io::ErrorKind::NotFound
        {
            tracing::debug!("{}: {error}", directory.display());
        }
    }

    /// Every step is tried until it works: what is missing may be applied later.
    async fn bring_up(&mut self) {
        let (sandbox, ()) = tokio::join!(self.make_sandbox(), self.prepare());
        self.reporter
            .update(|status| status.sandbox = Some(sandbox.clone()));
        let pod = self.reporter.get().pod;
        let spec = pod.spec.clone().unwrap_or_default();
        let statuses = self.list_containers();
        self.reporter.update(|status| status.containers = statuses);
        self.wait_for_files(&pod).await;
        self.fill_volumes(&pod).await;
        for container in spec.init_containers.iter().flatten() {
            if container.restart_policy.as_deref() == Some("Always") {
                self.launch(container, Role::Sidecar, &sandbox).await;
            } else {
                self.run_init(container, &sandbox).await;
            }
        }
        for container in &spec.containers {
            self.launch(container, Role::App, &sandbox).await;
        }
    }

    fn waiting(&self, error: &anyhow::Error) {
        let reason = format!("{error:#}");
        if self.reporter.get().reason.as_ref() != Some(&reason) {
            tracing::info!(pod = self.environment.subject.pod, "waiting: {reason}");
        }
        self.reporter.update(|status| status.reason = Some(reason));
    }

    fn supervisor(&self, container: &Container, role: Role, sandbox: &Sandbox) -> Supervisor {
        Supervisor {
            environment: self.environment.clone(),
            sandbox: sandbox.clone(),
            container: container.clone(),
            role,
            reporter: self.reporter.clone(),
        }
    }

    async fn run_init(&self, container: &Container, sandbox: &Sandbox) {
        let supervisor = self.supervisor(container, Role::Init, sandbox);
        let mut tries = 0;
        while let Err(error) = supervisor.run_once().await {
            tracing::warn!(pod = self.environment.subject.pod, "{error:#}");
            self.waiting(&error);
            self.reporter.container(&container.name, |status| {
                status.restarts += 1;
                status.state = State::Waiting {
                    reason: format!("{error:#}"),
                };
            });
            sleep(container::pause(tries)).await;
            tries += 1;
        }
        self.reporter.update(|status| status.reason = None);
    }

    /// Starts a container for good; returns when those after it may start.
    async fn launch(&mut self, container: &Container, role: Role, sandbox: &Sandbox) {
        let supervisor = self.supervisor(container, role, sandbox);
        let (wish, wished) = watch::channel(Wish::Run);
        let task = tokio::spawn(supervisor.run(wished));
        self.members.push(Member {
            container: container.clone(),
            role,
            wish,
            task,
        });
        let has_hook = container
            .lifecycle
            .as_ref()
            .is_some_and(|lifecycle| lifecycle.post_start.is_some());
        if role == Role::App && !has_hook {
            return;
        }
        let mut status = self.reporter.subscribe();
        let name = &container.name;
        let may_go_on = |status: &PodStatus| {
            status.container(name).is_some_and(|container| match role {
                Role::Sidecar => container.started,
                _ => matches!(container.state, State::Running { .. }),
            })
        };
        // The sender lives as long as this task.
        let _ = status.wait_for(may_go_on).await;
    }

    /// Keeps volumes fresh until the Pod is to end.
    async fn stay(&self, orders: &mut mpsc::Receiver<Order>) {
        loop {
            let pod = self.reporter.get().pod;
            let due = match self.refresh_volumes(&pod) {
                Ok(due) => due.unwrap_or(Duration::from_secs(3_600)),
                Err(error) => {
                    tracing::warn!(pod = self.environment.subject.pod, "{error:#}");
                    Duration::from_secs(10)
                }
            };
            tokio::select! {
                () = sleep(due) => {}
                order = orders.recv() => match order {
                    Some(Order::RefreshVolumes) => {}
                    Some(Order::Terminate) | None => return,
                },
            }
        }
    }
}
