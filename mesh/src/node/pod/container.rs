//! One container: start, probes, restart with back-off, end.

use std::fs::{File, Permissions};
use std::os::unix::fs::PermissionsExt as _;
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, Result};
use k8s_openapi::api::core::v1::{Container, Probe};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, sleep_until};

use super::probe::Target;
use super::status::{Reporter, Role, State};
use super::{Environment, env};
use crate::node::exec::exit_code;
use crate::node::root::{ContainerSpec, Mount};
use crate::node::sandbox::{Sandbox, Started};

const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);
/// A run of this length makes the next pause the first one again.
const HEALTHY_RUN: Duration = Duration::from_secs(10);
/// How long a container that fails its liveness probe may take to end.
const LIVENESS_GRACE: Duration = Duration::from_secs(5);
const HOOK_LIMIT: Duration = Duration::from_secs(60);

/// What the Pod wants of its containers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Run, and run again after an end.
    Run,
    /// Run on, but do not start again.
    NoRestart,
    /// End: SIGTERM, then SIGKILL at the deadline.
    Stop(Instant),
}

/// A container that is started and kept running.
#[derive(Clone, Debug)]
pub struct Supervisor {
    /// The Pod around it.
    pub environment: Environment,
    /// Its namespaces.
    pub sandbox: Sandbox,
    /// The container.
    pub container: Container,
    /// What it is for.
    pub role: Role,
    /// Where its state is reported.
    pub reporter: Reporter,
}

/// Time to wait before the start after `restarts` earlier ones.
#[must_use]
pub fn pause(restarts: u32) -> Duration {
    FIRST_PAUSE
        .saturating_mul(1 << restarts.min(10))
        .min(LONGEST_PAUSE)
}

impl Supervisor {
    fn name(&self) -> &str {
        &self.container.name
    }

    /// The helper's orders for this container.
    fn spec(&self) -> Result<ContainerSpec> {
        let environment = &self.environment;
        let status = self.reporter.get();
        let spec = status.pod.spec.clone().unwrap_or_default();
        let (env, command) = environment.with_volumes(&status.pod, |volumes| {
            let env = env::environment(&self.container, &volumes.facts, &volumes.values)?;
            let command = env::command(&self.container, &env)?;
            Ok((env, command))
        })?;
        let mut mounts = Vec::new();
        for wanted in self.container.volume_mounts.iter().flatten() {
            let volume = spec
                .volumes
                .iter()
                .flatten()
                .find(|volume| volume.name == wanted.name)
                .with_context(|| format!("volumeMount names no volume {:?}", wanted.name))?;
            let source = environment.with_volumes(&status.pod, |volumes| volumes.source(volume))?;
            let source = match &wanted.sub_path {
                Some(sub_path) => source.join(sub_path),
                None => source,
            };
            let projected = volume.empty_dir.is_none() && volume.host_path.is_none();
            mounts.push(Mount {
                source,
                target: wanted.mount_path.clone().into(),
                read_only: projected || wanted.read_only == Some(true),
            });
        }
        // An outer mount point must be there before an inner one.
        mounts.sort_by_key(|mount| mount.target.components().count());
        let own = self.container.security_context.clone().unwrap_or_default();
        let of_pod = spec.security_context.unwrap_or_default();
        let id = |own: Option<i64>, of_pod: Option<i64>| {
            own.or(of_pod)
                .and_then(|id| u32::try_from(id).ok())
                .filter(|id| *id != 0)
        };
        let layout = &environment.context.layout;
        Ok(ContainerSpec {
            scratch: layout.scratch(),
            image: layout.image(),
            binaries: layout.binaries(),
            resolv_conf: crate::node::dns::resolv_conf(&environment.subject.namespace),
            hosts: format!(
                "127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost\n{}\t{}\n",
                status.ip, environment.subject.pod
            ),
            mounts,
            command,
            env,
            working_dir: self.container.working_dir.as_deref().unwrap_or("/").into(),
            uid: id(own.run_as_user, of_pod.run_as_user),
            gid: id(own.run_as_group, of_pod.run_as_group),
            read_only_root: own.read_only_root_filesystem == Some(true),
            no_new_privileges: own.allow_privilege_escalation == Some(false),
        })
    }

    fn log_file(&self) -> Result<File> {
        let subject = &self.environment.subject;
        let path = self.environment.context.layout.container_log(
            &subject.namespace,
            &subject.pod,
            self.name(),
        );
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        // A container of another user opens its /dev/stdout, which is this file.
        log.set_permissions(Permissions::from_mode(0o666))
            .with_context(|| format!("open {} to its container", path.display()))?;
        Ok(log)
    }

    async fn start(&self) -> Result<Started> {
        let spec = self.spec()?;
        let uid = &self.environment.subject.pod_uid;
        let path = self
            .environment
            .context
            .layout
            .pod(uid)
            .join(format!("container-{}.json", self.name()));
        std::fs::write(
            &path,
            serde_json::to_vec(&spec).context("encode the container")?,
        )
        .with_context(|| format!("write {}", path.display()))?;
        let log = self.log_file()?;
        let errors = log.try_clone().context("copy a descriptor")?;
        let mut helper = Command::new("/proc/self/exe");
        helper
            .arg("container")
            .arg(&path)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors);
        self.sandbox.start(helper).await
    }

    fn target(&self, pid: Pid) -> Target {
        Target {
            ip: self.reporter.get().ip,
            pid,
            container: self.container.clone(),
        }
    }

    /// Runs to the end once; for init containers.
    ///
    /// # Errors
    /// When it cannot be started or ends with another code than 0.
    pub async fn run_once(&self) -> Result<()> {
        let name = self.name();
        let mut started = self.start().await?;
        let pid = started.pid().as_raw();
        self.reporter.container(name, |status| {
            status.state = State::Running {
                pid,
                since: std::time::SystemTime::now(),
            };
            status.started = true;
        });
        let code = exit_code(started.wait().await?);
        self.reporter.container(name, |status| {
            status.state = State::Ended { code };
            status.last_code = Some(code);
        });
        anyhow::ensure!(
            code == 0,
            "init container {name} ended with {code}; see its log"
        );
        Ok(())
    }

    /// Starts, probes and restarts the container until `wish` says otherwise.
    pub async fn run(self, mut wish: watch::Receiver<Wish>) {
        let mut quick_ends = 0;
        loop {
            let begun = Instant::now();
            let reason = match self.start().await {
                Ok(started) => {
                    let code = self.attend(started, &mut wish).await;
                    self.reporter
                        .container(self.name(), |status| status.last_code = Some(code));
                    if *wish.borrow() != Wish::Run {
                        self.reporter.container(self.name(), |status| {
                            status.state = State::Ended { code };
                            (status.ready, status.started) = (false, false);
                        });
                        return;
                    }
                    tracing::info!(
                        pod = self.environment.subject.pod,
                        container = self.name(),
                        code,
                        "container ended"
                    );
                    format!("ended with {code}")
                }
                Err(error) => {
                    tracing::warn!(
                        pod = self.environment.subject.pod,
                        container = self.name(),
                        "{error:#}"
                    );
                    format!("{error:#}")
                }
            };
            if begun.elapsed() >= HEALTHY_RUN {
                quick_ends = 0;
            }
            self.reporter.container(self.name(), |status| {
                status.state = State::Waiting { reason };
                (status.ready, status.started) = (false, false);
                status.restarts += 1;
            });
            let stopped = tokio::select! {
                () = sleep(pause(quick_ends)) => false,
                _ = wish.wait_for(|wish| *wish != Wish::Run) => true,
            };
            if stopped {
                self.reporter.container(self.name(), |status| {
                    status.state = State::Ended { code: 1 }
                });
                return;
            }
            quick_ends += 1;
        }
    }

    /// Accompanies one run; returns its exit code.
    async fn attend(&self, mut started: Started, wish: &mut watch::Receiver<Wish>) -> i32 {
        let target = self.target(started.pid());
        let care = self.care(&target);
        tokio::pin!(care);
        let mut cared_for = true;
        let mut kill_at: Option<Instant> = None;
        let mut stopping = false;
        let ended = loop {
            let current = *wish.borrow_and_update();
            if let Wish::Stop(deadline) = current
                && !stopping
            {
                (stopping, cared_for) = (true, false);
                kill_at = Some(deadline);
                started.signal(Signal::SIGTERM);
            }
            let killing = async {
                match kill_at {
                    Some(deadline) => sleep_until(deadline).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                ended = started.wait() => break ended,
                error = &mut care, if cared_for => {
                    tracing::warn!(pod = self.environment.subject.pod, container = self.name(), "restarting: {error:#}");
                    cared_for = false;
                    kill_at = Some(Instant::now() + LIVENESS_GRACE);
                    started.signal(Signal::SIGTERM);
                }
                () = killing => {
                    kill_at = None;
                    started.signal(Signal::SIGKILL);
                }
                changed = wish.changed() => if changed.is_err() {
                    // The Pod is gone without a word: end with it.
                    started.signal(Signal::SIGKILL);
                    break started.wait().await;
                },
            }
        };
        match ended {
            Ok(status) => exit_code(status),
            Err(error) => {
                tracing::warn!(
                    pod = self.environment.subject.pod,
                    container = self.name(),
                    "{error:#}"
                );
                1
            }
        }
    }

    /// Post-start hook and probes; ends only with the reason for a restart.
    async fn care(&self, target: &Target) -> anyhow::Error {
        let name = self.name();
        if let Some(hook) = self
            .container
            .lifecycle
            .as_ref()
            .and_then(|all| all.post_start.as_ref())
            && let Err(error) = target.hook(hook, HOOK_LIMIT).await
        {
            return error.context("postStart hook");
        }
        let pid = target.pid.as_raw();
        self.reporter.container(name, |status| {
            status.state = State::Running {
                pid,
                since: std::time::SystemTime::now(),
            };
        });
        if let Some(probe) = &self.container.startup_probe
            && let Err(error) = first_verdict(target, probe).await
        {
            return error.context("startup probe");
        }
        let probed = self.container.readiness_probe.is_some();
        self.reporter.container(name, |status| {
            status.started = true;
            status.ready = !probed;
        });
        let readiness = async {
            let Some(probe) = &self.container.readiness_probe else {
                return std::future::pending().await;
            };
            target
                .watch(probe, |verdict| {
                    let ready = verdict.is_ok();
                    if let Err(error) = verdict {
                        tracing::info!(
                            pod = self.environment.subject.pod,
                            container = name,
                            "not ready: {error:#}"
                        );
                    }
                    self.reporter.container(name, |status| status.ready = ready);
                })
                .await;
        };
        let liveness = async {
            match &self.container.liveness_probe {
                Some(probe) => first_failure(target, probe).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            error = liveness => error.context("liveness probe"),
            () = readiness => anyhow::anyhow!("the readiness probe ended"),
        }
    }
}

async fn first_verdict(target: &Target, probe: &Probe) -> Result<()> {
    let (tx, mut rx) = watch::channel(None);
    tokio::select! {
        () = target.watch(probe, |verdict| {
            tx.send_replace(Some(verdict.map_err(|error| format!("{error:#}"))));
        }) => Ok(()),
        changed = rx.changed() => {
            changed.context("the probe ended")?;
            match &*rx.borrow() {
                Some(Err(error)) => Err(anyhow::anyhow!("{error}")),
                _ => Ok(()),
            }
        }
    }
}

async fn first_failure(target: &Target, probe: &Probe) -> anyhow::Error {
    let (tx, mut rx) = watch::channel(None);
    let failed = async {
        match rx
            .wait_for(|verdict: &Option<String>| verdict.is_some())
            .await
        {
            Ok(verdict) => anyhow::anyhow!("{}", verdict.as_deref().unwrap_or_default()),
            Err(_) => anyhow::anyhow!("the probe ended"),
        }
    };
    tokio::select! {
        () = target.watch(probe, |verdict| if let Err(error) = verdict {
            tx.send_replace(Some(format!("{error:#}")));
        }) => anyhow::anyhow!("the probe ended"),
        error = failed => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pauses_double_up_to_the_longest() {
        assert_eq!(pause(0), Duration::from_millis(100));
        assert_eq!(pause(3), Duration::from_millis(800));
        assert_eq!(pause(30), LONGEST_PAUSE);
    }
}
