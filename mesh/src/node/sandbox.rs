//! Namespaces of Pods and processes inside them.
//!
//! Namespaces belong to threads, so each step that enters one runs on a short-lived thread of
//! its own and hands back a file descriptor or a pid. A Pod's namespaces live as long as its
//! descriptors; nothing is bound into the file system.

use std::fs::File;
use std::io;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns, unshare};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::sync::oneshot;

/// The network, host name and IPC namespaces that the containers of a Pod share.
#[derive(Clone, Debug)]
pub struct Sandbox {
    net: Arc<File>,
    uts: Arc<File>,
    ipc: Arc<File>,
}

/// A started process. Dropped before its end, it is killed.
#[derive(Debug)]
pub struct Started {
    pid: Pid,
    exit: Option<oneshot::Receiver<io::Result<ExitStatus>>>,
}

impl Started {
    /// Pid as the node sees it; inside its own PID namespace a container's process is pid 1.
    #[must_use]
    pub fn pid(&self) -> Pid {
        self.pid
    }

    /// Waits for the end; may be called again when the call before was cancelled.
    ///
    /// # Errors
    /// When it was waited for already or the kernel gives no status.
    pub async fn wait(&mut self) -> Result<ExitStatus> {
        let exit = self
            .exit
            .as_mut()
            .context("the process was waited for already")?;
        let ended = exit.await;
        self.exit = None;
        ended
            .context("the thread of a process died")?
            .context("wait for a process")
    }

    /// Sends `signal`; a process that has just ended is not an error.
    pub fn signal(&self, signal: Signal) {
        if self.exit.is_some()
            && let Err(error) = kill(self.pid, signal)
        {
            tracing::debug!(pid = self.pid.as_raw(), %error, "{signal} was not sent");
        }
    }
}

impl Drop for Started {
    fn drop(&mut self) {
        self.signal(Signal::SIGKILL);
    }
}

/// Runs `work` on a fresh thread, whose namespaces it may change freely.
async fn on_thread<T: Send + 'static>(
    work: impl FnOnce() -> Result<T> + Send + 'static,
) -> Result<T> {
    let (tx, rx) = oneshot::channel();
    std::thread::Builder::new()
        .name("namespace".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            // The receiver is only gone when the whole task was cancelled.
            let _ = tx.send(work());
        })
        .context("start a thread for a namespace")?;
    rx.await
        .context("the thread that entered a namespace died")?
}

impl Sandbox {
    /// Makes the namespaces, sets the host name and `sysctls` (dotted name, value), and runs
    /// `ip -batch` inside with `links`.
    ///
    /// # Errors
    /// When the kernel refuses a namespace or `ip` fails; the text says which.
    pub async fn create(
        hostname: String,
        sysctls: Vec<(String, String)>,
        links: String,
    ) -> Result<Self> {
        on_thread(move || {
            let flags =
                CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWUTS | CloneFlags::CLONE_NEWIPC;
            unshare(flags).context("make the namespaces of a Pod")?;
            nix::unistd::sethostname(&hostname)
                .with_context(|| format!("set the host name {hostname:?}"))?;
            for (name, value) in &sysctls {
                let path = format!("/proc/sys/{}", name.replace('.', "/"));
                std::fs::write(&path, value)
                    .with_context(|| format!("set sysctl {name}={value}"))?;
            }
            let open = |name: &str| {
                let path = format!("/proc/thread-self/ns/{name}");
                File::open(&path)
                    .map(Arc::new)
                    .with_context(|| format!("open {path}"))
            };
            let sandbox = Self {
                net: open("net")?,
                uts: open("uts")?,
                ipc: open("ipc")?,
            };
            ip_batch(&links)?;
            Ok(sandbox)
        })
        .await
    }

    fn enter(&self) -> Result<()> {
        setns(&*self.net, CloneFlags::CLONE_NEWNET).context("enter the Pod's network namespace")?;
        setns(&*self.uts, CloneFlags::CLONE_NEWUTS)
            .context("enter the Pod's host name namespace")?;
        setns(&*self.ipc, CloneFlags::CLONE_NEWIPC).context("enter the Pod's IPC namespace")
    }

    /// Starts `command` in the Pod's namespaces and as pid 1 of a PID namespace of its own: its
    /// end is the end of everything that it started.
    ///
    /// # Errors
    /// When a namespace cannot be entered or the program cannot be started.
    pub async fn start(&self, command: Command) -> Result<Started> {
        let sandbox = self.clone();
        start_on_thread(command, move || {
            sandbox.enter()?;
            unshare(CloneFlags::CLONE_NEWPID).context("make the PID namespace of a container")
        })
        .await
    }

    /// A TCP socket that belongs to the Pod, not yet connected.
    ///
    /// # Errors
    /// When the namespace cannot be entered or the process is out of descriptors.
    pub async fn socket(&self) -> Result<tokio::net::TcpSocket> {
        let sandbox = self.clone();
        on_thread(move || {
            setns(&*sandbox.net, CloneFlags::CLONE_NEWNET)
                .context("enter the Pod's network namespace")?;
            tokio::net::TcpSocket::new_v4().context("make a socket in the Pod")
        })
        .await
    }
}

/// Starts `command` as an additional process of the PID namespace of `pid`.
///
/// # Errors
/// When that process is gone or the program cannot be started.
pub async fn start_beside(pid: Pid, command: Command) -> Result<Started> {
    start_on_thread(command, move || enter_pid_namespace(pid)).await
}

/// Makes later children of the calling thread members of the PID namespace of `pid`.
///
/// # Errors
/// When that process is gone.
pub fn enter_pid_namespace(pid: Pid) -> Result<()> {
    let path = format!("/proc/{pid}/ns/pid");
    let file = File::open(&path).with_context(|| format!("open {path}: is the process gone?"))?;
    setns(&file, CloneFlags::CLONE_NEWPID).with_context(|| format!("enter {path}"))
}

async fn start_on_thread(
    mut command: Command,
    prepare: impl FnOnce() -> Result<()> + Send + 'static,
) -> Result<Started> {
    let (pid_tx, pid_rx) = oneshot::channel();
    let (exit_tx, exit) = oneshot::channel();
    std::thread::Builder::new()
        .name("container".to_owned())
        .stack_size(256 * 1024)
        .spawn(move || {
            let started = prepare().and_then(|()| command.spawn().context("start the process"));
            match started {
                Ok(mut child) => {
                    let pid = i32::try_from(child.id()).context("pid out of range");
                    let _ = pid_tx.send(pid.map(Pid::from_raw));
                    let _ = exit_tx.send(child.wait());
                }
                Err(error) => {
                    let _ = pid_tx.send(Err(error));
                }
            }
        })
        .context("start a thread for a container")?;
    let pid = pid_rx
        .await
        .context("the thread that starts a container died")??;
    Ok(Started {
        pid,
        exit: Some(exit),
    })
}

/// Feeds `lines` to `ip -batch -` in the calling thread's network namespace.
///
/// # Errors
/// When `ip` is missing or refuses a line; the text carries its message.
pub fn ip_batch(lines: &str) -> Result<()> {
    use std::io::Write as _;
    let mut child = Command::new("ip")
        .args(["-batch", "-"])
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .context("start ip (package iproute2)")?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(lines.as_bytes()).context("write to ip")?;
    }
    let output = child.wait_with_output().context("wait for ip")?;
    if !output.status.success() {
        let message = String::from_utf8_lossy(&output.stderr);
        bail!("ip refused {lines:?}: {}", message.trim());
    }
    Ok(())
}
