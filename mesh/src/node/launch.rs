//! From an ordinary process to pid 1 of the mesh's own namespaces, in two steps.
//!
//! `mesh up` starts the *supervisor* (`mesh node`), which makes the namespaces and starts the
//! *node* in them as pid 1. When either dies, by whatever cause, the kernel ends everything
//! inside and takes the namespaces, cables, rules and mounts away.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};

use anyhow::{Context, Result};
use nix::sched::{CloneFlags, unshare};
use nix::sys::signal::Signal;

use super::config::{NodeConfig, Publish, Published};
use super::root;
use crate::state::{self, RunState};

/// First step, in the caller's namespaces. Returns when the node has ended.
///
/// # Errors
/// When the kernel refuses the namespaces; the text names the setting that allows them.
pub fn supervise(config: &Path) -> Result<ExitCode> {
    let settings = NodeConfig::read(config)?;
    // A terminal's Ctrl-C is for `mesh up`, which then ends the node itself.
    nix::unistd::setsid().context("leave the terminal's session")?;
    crate::privilege::enter_user_namespace()?;
    let flags = CloneFlags::CLONE_NEWPID | CloneFlags::CLONE_NEWNS | CloneFlags::CLONE_NEWUTS;
    unshare(flags).context(crate::privilege::NAMESPACES_REFUSED)?;
    // Both share the mounts: soon /proc is the node's, where this process is not to be seen.
    let own = std::process::id();
    let start_time = state::start_time(own).context("read the own start time")?;
    let mut child = Command::new("/proc/self/exe")
        .arg("node-init")
        .arg(config)
        .stdin(Stdio::inherit())
        .spawn()
        .context("start the node")?;
    let node = child.id();
    let state = RunState {
        pid: own,
        start_time,
        node_pid: node,
    };
    state
        .write(&settings.layout)
        .context("write the state file")?;
    // The node's copy is the one that counts: its end is the end of the announcement.
    close_standard_output()?;
    let status = child.wait().context("wait for the node")?;
    // Whoever waits for the end waits for the state file, so that goes last.
    let tidied = state::tidy(&settings.layout);
    RunState::remove(&settings.layout)?;
    tidied?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn close_standard_output() -> Result<()> {
    let null = std::fs::File::options()
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    nix::unistd::dup2_stdout(&null).context("close the standard output")
}

/// Second step, as pid 1: binds the published addresses while still in the host's network,
/// leaves that network, and runs the node.
///
/// # Errors
/// When a mount or namespace is refused, or the node fails.
pub fn init(config: &Path) -> Result<ExitCode> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tie the node to its supervisor")?;
    let settings = NodeConfig::read(config)?;
    root::private_mounts()?;
    root::mount_proc(Path::new("/proc"))
        .context("in an unprivileged container the outer /proc must not be masked")?;
    let listeners = bind_published(&settings.publish)?;
    unshare(CloneFlags::CLONE_NEWNET | CloneFlags::CLONE_NEWIPC)
        .context(crate::privilege::NAMESPACES_REFUSED)?;
    root::mount_run(&settings.layout.run())?;
    root::prepare_image(&settings.layout.image())?;
    root::prepare_binaries(&settings.layout.binaries(), &settings.binaries)?;
    std::fs::create_dir_all(settings.layout.scratch()).context("make the scratch directory")?;
    super::network::set_up_node()?;
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .context("start the runtime")?;
    runtime.block_on(super::run::run(settings, listeners))?;
    Ok(ExitCode::SUCCESS)
}

/// Binds each wanted address on the loopback of the host: the preferred port, else one of the
/// next twenty, else any free one.
fn bind_published(wanted: &[Publish]) -> Result<Vec<(Published, TcpListener)>> {
    let mut bound = Vec::with_capacity(wanted.len());
    for target in wanted {
        let preferred = (target.listen..).take(20).chain([0]);
        let mut failure = None;
        let mut listener = None;
        for port in preferred {
            match TcpListener::bind((Ipv4Addr::LOCALHOST, port)) {
                Ok(socket) => {
                    listener = Some(socket);
                    break;
                }
                Err(error) => failure = Some(error),
            }
        }
        let Some(listener) = listener else {
            let error = failure.unwrap_or_else(|| std::io::ErrorKind::AddrInUse.into());
            return Err(error).with_context(|| format!("listen on 127.0.0.1:{}", target.listen));
        };
        let address = listener
            .local_addr()
            .context("read the listener's address")?;
        bound.push((
            Published {
                target: target.clone(),
                address,
            },
            listener,
        ));
    }
    Ok(bound)
}
