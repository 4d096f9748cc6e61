//! Starting Envoy, waiting for it, and killing it.

use std::{
    os::unix::process::{CommandExt as _, ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Stdio},
};

use anyhow::{Context as _, anyhow};
use nix::{
    errno::Errno,
    sys::{
        prctl,
        signal::Signal,
        wait::{Id, WaitPidFlag, WaitStatus, waitid, waitpid},
    },
    unistd::{Pid, getpid, getppid},
};
use tokio::{
    process::Child,
    signal::unix::{SignalKind, signal},
};

use crate::args::ExecFlags;

/// A running Envoy. Dropping it kills it.
#[derive(Debug)]
pub struct Envoy {
    child: Child,
}

impl Envoy {
    /// Starts `binary`. With `launcher` (this program) Envoy dies with the agent however that ends.
    ///
    /// # Errors
    /// If the program cannot be started.
    pub fn start(
        binary: &Path,
        arguments: &[String],
        launcher: Option<&PathBuf>,
    ) -> anyhow::Result<Self> {
        let mut command = match launcher {
            None => tokio::process::Command::new(binary),
            Some(launcher) => {
                let mut command = tokio::process::Command::new(launcher);
                command
                    .args([
                        "exec-envoy",
                        "--parent",
                        &std::process::id().to_string(),
                        "--",
                    ])
                    .arg(binary);
                command
            }
        };
        let child = command
            .args(arguments)
            .stdin(Stdio::null())
            .kill_on_drop(true)
            .spawn()
            .with_context(|| {
                format!(
                    "cannot start Envoy: {}",
                    launcher.map_or(binary, PathBuf::as_path).display()
                )
            })?;
        Ok(Self { child })
    }

    /// The process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.child.id()
    }

    /// Waits until Envoy exits.
    ///
    /// # Errors
    /// If the child process cannot be waited for.
    pub async fn wait(&mut self) -> anyhow::Result<ExitStatus> {
        self.child.wait().await.context("cannot wait for Envoy")
    }

    /// Kills Envoy and waits until it has exited.
    ///
    /// # Errors
    /// If the child process cannot be killed.
    pub async fn kill(&mut self) -> anyhow::Result<()> {
        self.child.kill().await.context("cannot kill Envoy")
    }
}

/// Describes an exit status, with a hint at a frequent cause.
#[must_use]
pub fn describe(status: ExitStatus) -> String {
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit status {code}"),
        (None, Some(9)) => {
            "killed by signal 9, probably because the container reached its memory limit".to_owned()
        }
        (None, Some(signal)) => {
            let name = Signal::try_from(signal).map_or("unknown", Signal::as_str);
            format!("killed by signal {signal} ({name})")
        }
        (None, None) => status.to_string(),
    }
}

/// Replaces this process with Envoy, after asking the kernel to kill it when the agent dies.
pub fn become_envoy(flags: &ExecFlags) -> anyhow::Error {
    if let Err(error) = prctl::set_pdeathsig(Some(Signal::SIGKILL)) {
        return anyhow!("cannot follow the agent's lifetime: {error}");
    }
    // The agent may have died just before.
    if getppid().as_raw() != flags.parent {
        return anyhow!("the agent (process {}) has exited already", flags.parent);
    }
    let Some((program, arguments)) = flags.command.split_first() else {
        return anyhow!("no program to execute");
    };
    let error = Command::new(program).args(arguments).exec();
    anyhow!("cannot execute {program}: {error}")
}

/// Reaps orphaned processes when running as process 1 of a container, until dropped. `envoy` is
/// left to its own waiter.
pub async fn reap_orphans(envoy: Option<u32>) {
    if getpid().as_raw() != 1 {
        return std::future::pending().await;
    }
    let mut children = match signal(SignalKind::child()) {
        Ok(children) => children,
        Err(error) => {
            tracing::warn!(%error, "cannot watch for orphaned processes");
            return std::future::pending().await;
        }
    };
    let own = envoy.and_then(|pid| i32::try_from(pid).ok());
    while children.recv().await.is_some() {
        loop {
            let look = WaitPidFlag::WEXITED | WaitPidFlag::WNOHANG | WaitPidFlag::WNOWAIT;
            let ended = match waitid(Id::All, look) {
                Ok(WaitStatus::Exited(pid, _) | WaitStatus::Signaled(pid, _, _)) => pid,
                Ok(_) | Err(Errno::ECHILD | Errno::EINTR) => break,
                Err(error) => {
                    tracing::debug!(%error, "cannot list exited processes");
                    break;
                }
            };
            // Envoy at the head hides other processes only until its own waiter reaps it.
            if Some(ended.as_raw()) == own || !reap(ended) {
                break;
            }
        }
    }
}

fn reap(pid: Pid) -> bool {
    waitpid(pid, Some(WaitPidFlag::WNOHANG)).is_ok()
}
