//! Additional processes in a running container: hooks, probes and `mesh exec`.

use std::fs::File;
use std::os::unix::process::ExitStatusExt as _;
use std::process::{Command, ExitStatus, Stdio};
use std::time::Duration;

use anyhow::{Context, Result, bail};
use nix::sched::{CloneFlags, setns};
use nix::sys::signal::Signal;
use nix::unistd::Pid;
use tokio::io::AsyncReadExt as _;

use super::root;
use super::sandbox;

/// What a command in a container did.
#[derive(Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// Its standard output and error, at most 64 KiB.
    pub text: String,
}

const MAX_OUTPUT: u64 = 64 * 1024;

/// The helper that joins the container of `pid` and becomes `command`.
#[must_use]
pub fn joining(pid: Pid, command: &[String]) -> Command {
    let mut helper = Command::new("/proc/self/exe");
    helper
        .arg("join")
        .arg(pid.to_string())
        .arg("--")
        .args(command);
    helper
}

/// Runs `command` in the container whose main process is `pid` and waits for its end; after
/// `limit` it is killed.
///
/// # Errors
/// When it cannot be started, the container is gone, or the limit is reached.
pub async fn run(pid: Pid, command: &[String], limit: Duration) -> Result<Output> {
    let (reader, writer) = std::io::pipe().context("make a pipe")?;
    let mut helper = joining(pid, command);
    let errors = writer.try_clone().context("copy a pipe")?;
    helper.stdin(Stdio::null()).stdout(writer).stderr(errors);
    let mut started = sandbox::start_beside(pid, helper).await?;
    let text = tokio::spawn(async move {
        let reader = tokio::fs::File::from_std(File::from(std::os::fd::OwnedFd::from(reader)));
        let mut bytes = Vec::new();
        let read = reader.take(MAX_OUTPUT).read_to_end(&mut bytes).await;
        read.map(|_| String::from_utf8_lossy(&bytes).into_owned())
    });
    let Ok(ended) = tokio::time::timeout(limit, started.wait()).await else {
        bail!("{} did not end within {limit:?}", command.join(" "));
    };
    let status = ended?;
    let text = text
        .await
        .context("read the output")?
        .context("read the output")?;
    Ok(Output { status, text })
}

/// Runs in the helper, already in the container's PID namespace: joins its other namespaces,
/// takes over its environment and user, and becomes `command`. `pid` is as the mounted `/proc`
/// counts. Returns only on failure.
///
/// # Errors
/// When the container is gone or a namespace cannot be joined.
pub fn become_member(pid: i32, command: &[String]) -> Result<std::convert::Infallible> {
    let place = format!("/proc/{pid}");
    let environment = std::fs::read(format!("{place}/environ"))
        .with_context(|| format!("read {place}/environ: is the container gone?"))?;
    let status = std::fs::read_to_string(format!("{place}/status"))
        .with_context(|| format!("read {place}/status"))?;
    let open = |name: &str| {
        File::open(format!("{place}/ns/{name}")).with_context(|| format!("open {place}/ns/{name}"))
    };
    let (net, uts, ipc, mnt) = (open("net")?, open("uts")?, open("ipc")?, open("mnt")?);
    setns(&net, CloneFlags::CLONE_NEWNET).context("join the network")?;
    setns(&uts, CloneFlags::CLONE_NEWUTS).context("join the host name")?;
    setns(&ipc, CloneFlags::CLONE_NEWIPC).context("join the IPC namespace")?;
    setns(&mnt, CloneFlags::CLONE_NEWNS).context("join the mounts")?;
    let id = |field: &str| -> Option<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(field))?;
        line.split_ascii_whitespace().nth(1)?.parse().ok()
    };
    // An id that is not mapped here shows as the overflow id; root then stays root.
    let (uid, gid) = (
        id("Uid:").filter(|id| *id != 0),
        id("Gid:").filter(|id| *id != 0),
    );
    root::change_user(uid, gid)?;
    // Ends with whoever asked for it, as a client that hangs up.
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tie the command to its caller")?;
    let env: Vec<(String, String)> = environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let (name, value) = std::str::from_utf8(entry).ok()?.split_once('=')?;
            Some((name.to_owned(), value.to_owned()))
        })
        .collect();
    root::exec(command, &env)
}

/// Exit code of a shell for `status`: 128 + signal for a killed process.
#[must_use]
pub fn exit_code(status: ExitStatus) -> i32 {
    status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal))
        .unwrap_or(1)
}
