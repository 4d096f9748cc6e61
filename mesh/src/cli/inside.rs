//! Hidden commands: helpers that turn themselves into processes of a Pod.

use std::path::Path;
use std::process::{Command, ExitCode};

use anyhow::{Context as _, Result};
use nix::sys::signal::{SigSet, Signal};
use nix::unistd::Pid;

use crate::node::root::{self, ContainerSpec};
use crate::node::{exec, sandbox};

/// Becomes a container's main process. Returns only on failure.
pub(super) fn container(spec: &Path) -> Result<ExitCode> {
    let text = std::fs::read(spec).with_context(|| format!("read {}", spec.display()))?;
    let spec: ContainerSpec =
        serde_json::from_slice(&text).with_context(|| format!("understand {}", spec.display()))?;
    match root::become_container(&spec)? {}
}

/// Becomes an additional process of a container. Returns only on failure.
pub(super) fn join(pid: i32, command: &[String]) -> Result<ExitCode> {
    SigSet::all().thread_unblock().context("unblock signals")?;
    match exec::become_member(pid, command)? {}
}

/// From the host: enters the namespaces of the node's container `pid` and runs a command there.
pub(super) fn enter(node: u32, pid: i32, command: &[String]) -> Result<ExitCode> {
    crate::privilege::join_user_namespace(node)?;
    let pid = host_pid(node, pid).context("the container is gone")?;
    sandbox::enter_pid_namespace(Pid::from_raw(pid))?;
    // The terminal's Ctrl-C is for the command.
    let mut ignored = SigSet::empty();
    ignored.add(Signal::SIGINT);
    ignored.add(Signal::SIGQUIT);
    ignored.thread_block().context("block signals")?;
    let mut helper = Command::new("/proc/self/exe");
    helper
        .arg("join")
        .arg(pid.to_string())
        .arg("--")
        .args(command);
    let status = helper.status().context("start the helper")?;
    Ok(ExitCode::from(
        u8::try_from(exec::exit_code(status)).unwrap_or(1),
    ))
}

/// The host's pid of the node's child that the node knows as `pid`.
fn host_pid(node: u32, pid: i32) -> Option<i32> {
    let wanted = (node.to_string(), pid.to_string());
    std::fs::read_dir("/proc")
        .ok()?
        .flatten()
        .find_map(|entry| {
            let candidate: i32 = entry.file_name().to_str()?.parse().ok()?;
            let status = std::fs::read_to_string(entry.path().join("status")).ok()?;
            let field = |name: &str| status.lines().find_map(|line| line.strip_prefix(name));
            let parent = field("PPid:")?.trim();
            // Pids from the outermost namespace inwards: the host's, the node's, the container's.
            let inner = field("NSpid:")?.split_ascii_whitespace().rev().nth(1)?;
            ((parent, inner) == (wanted.0.as_str(), wanted.1.as_str())).then_some(candidate)
        })
}
