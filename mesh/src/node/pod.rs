//! A Pod: from its admission to its end, in a task of its own.

pub mod container;
pub mod env;
pub mod probe;
pub mod single_id;
pub mod status;
pub mod volume;

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context as _, Result};
use futures::future::join_all;
use k8s_openapi::api::core::v1::{Container, Pod};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;
use tokio::time::{Instant, sleep, timeout_at};

use self::container::{Supervisor, Wish};
use self::env::Facts;
use self::probe::Target;
use self::status::{ContainerStatus, Phase, PodStatus, Reporter, Role, State};
use self::volume::{Namespaced, Volumes};
use super::sandbox::Sandbox;
use super::token::Subject;
use super::{Context, NODE_NAME, network};

const DEFAULT_GRACE: Duration = Duration::from_secs(30);
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

    async fn make_sandbox(&self) -> Sandbox {
        loop {
            let pod = self.reporter.get().pod;
            let sysctls = pod
                .spec
                .as_ref()
                .and_then(|spec| spec.security_context.as_ref()?.sysctls.as_ref())
                .into_iter()
                .flatten()
                .map(|sysctl| (sysctl.name.clone(), sysctl.value.clone()))
                .collect();
            let hostname = self.environment.subject.pod.clone();
            match network::connect_pod(self.index, hostname, self.environment.ip, sysctls).await {
                Ok(sandbox) => return sandbox,
                Err(error) => self.waiting(&error),
            }
            sleep(RETRY).await;
        }
    }

    /// What is run: the Pod, injected where that is wanted.
    async fn prepare(&self) {
        self.admit().await;
        if self.environment.context.single_id {
            let mut pod = (*self.reporter.get().pod).clone();
            single_id::adapt(&mut pod);
            self.reporter.update(|status| status.pod = Arc::new(pod));
        }
    }

    async fn admit(&self) {
        let subject = &self.environment.subject;
        let context = &self.environment.context;
        let original = self.reporter.get().pod;
        if !super::inject::is_wanted(&context.store, &subject.namespace, &original) {
            return;
        }
        loop {
            match super::inject::admit(context, &subject.namespace, &original).await {
                Ok(injected) => {
                    self.reporter.update(|status| {
                        (status.pod, status.reason) = (Arc::new(injected), None);
                    });
                    return;
                }
                Err(error) => self.waiting(&error),
            }
            sleep(RETRY).await;
        }
    }

    fn list_containers(&self) -> Vec<ContainerStatus> {
        let pod = self.reporter.get().pod;
        let spec = pod.spec.clone().unwrap_or_default();
        let status = |container: &Container, role| ContainerStatus {
            name: container.name.clone(),
            role,
            state: State::Waiting {
                reason: "not started yet".to_owned(),
            },
            started: false,
            ready: false,
            restarts: 0,
            last_code: None,
        };
        let init = spec.init_containers.iter().flatten().map(|container| {
            let stays = container.restart_policy.as_deref() == Some("Always");
            status(container, if stays { Role::Sidecar } else { Role::Init })
        });
        init.chain(
            spec.containers
                .iter()
                .map(|container| status(container, Role::App)),
        )
        .collect()
    }

    /// Control-plane Pods say in an annotation which files others must write first.
    async fn wait_for_files(&self, pod: &Pod) {
        let Some(wanted) = pod
            .metadata
            .annotations
            .as_ref()
            .and_then(|all| all.get(super::AFTER_FILES))
        else {
            return;
        };
        let mut written = self.environment.context.files.clone();
        for path in wanted.split(',').map(str::trim) {
            loop {
                written.mark_unchanged();
                match volume::shared_path(&self.environment.context.layout, path) {
                    Ok(place) if place.is_file() => break,
                    Ok(_) => self.waiting(&anyhow::anyhow!("{path} is not written yet")),
                    Err(error) => self.waiting(&error),
                }
                tokio::select! {
                    _ = written.changed() => {}
                    () = sleep(RETRY) => {}
                }
            }
        }
        self.reporter.update(|status| status.reason = None);
    }

    async fn fill_volumes(&self, pod: &Pod) {
        let mut objects = self.environment.context.generation.clone();
        loop {
            objects.mark_unchanged();
            match self.refresh_volumes(pod) {
                Ok(_) => break,
                Err(error) => self.waiting(&error),
            }
            tokio::select! {
                _ = objects.changed() => {}
                () = sleep(RETRY) => {}
            }
        }
        self.reporter.update(|status| status.reason = None);
    }

    fn refresh_volumes(&self, pod: &Pod) -> Result<Option<Duration>> {
        let spec = pod.spec.clone().unwrap_or_default();
        let directory = self
            .environment
            .context
            .layout
            .pod(&self.environment.subject.pod_uid);
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("make {}", directory.display()))?;
        self.environment
            .with_volumes(pod, |volumes| volumes.fill(&spec))
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

    async fn terminate(&mut self) {
        // This takes the Pod out of all endpoints.
        self.reporter.update(|status| {
            (status.phase, status.reason) = (Phase::Terminating, None);
        });
        for member in &self.members {
            member.wish.send_replace(Wish::NoRestart);
        }
        let pod = self.reporter.get().pod;
        let grace = pod
            .spec
            .as_ref()
            .and_then(|spec| u64::try_from(spec.termination_grace_period_seconds?).ok())
            .map_or(DEFAULT_GRACE, Duration::from_secs);
        let deadline = Instant::now() + grace;
        let mut members = std::mem::take(&mut self.members);
        let (apps, sidecars): (Vec<_>, Vec<_>) = members
            .drain(..)
            .partition(|member| member.role == Role::App);
        // As the kubelet: the hooks of all at once; sidecars end after the last container.
        let hooks = join_all(
            sidecars
                .iter()
                .map(|member| self.pre_stop(member, deadline)),
        );
        let ends = join_all(apps.into_iter().map(|member| async {
            self.pre_stop(&member, deadline).await;
            stop(member, deadline).await;
        }));
        tokio::join!(hooks, ends);
        for member in sidecars.into_iter().rev() {
            stop(member, deadline).await;
        }
    }

    async fn pre_stop(&self, member: &Member, deadline: Instant) {
        let name = &member.container.name;
        let Some(hook) = member
            .container
            .lifecycle
            .as_ref()
            .and_then(|all| all.pre_stop.as_ref())
        else {
            return;
        };
        let Some(pid) = self.reporter.get().pid(name) else {
            return;
        };
        let target = Target {
            ip: self.environment.ip,
            pid: nix::unistd::Pid::from_raw(pid),
            container: member.container.clone(),
        };
        let limit = deadline.saturating_duration_since(Instant::now());
        if let Err(error) = target.hook(hook, limit).await {
            tracing::warn!(
                pod = self.environment.subject.pod,
                container = name,
                "preStop: {error:#}"
            );
        }
    }
}

async fn stop(member: Member, deadline: Instant) {
    member.wish.send_replace(Wish::Stop(deadline));
    // SIGKILL comes at the deadline; a second more for the kernel to clear up.
    let latest = deadline + Duration::from_secs(1);
    if timeout_at(latest, member.task).await.is_err() {
        tracing::warn!(
            container = member.container.name,
            "did not end after SIGKILL"
        );
    }
}
