//! From an ordinary process to the node.
//!
//! `cluster up` starts the *supervisor*, which stays in the host's namespaces, lays the cable and
//! makes the control groups. Its child, the *node* (`init`), is pid 1 of namespaces of its own:
//! when either dies, by whatever cause, the kernel ends everything inside and takes mounts,
//! cables, routes and rules away.

use std::fs::File;
use std::path::Path;
use std::process::{Command, ExitCode, ExitStatus};
use std::sync::mpsc;

use anyhow::{Context as _, Result};
use nix::sched::{CloneFlags, unshare};
use serde::{Deserialize, Serialize};

use crate::address::Number;
use crate::cgroup;
use crate::layout::Layout;
use crate::programs::Program;
use mesh::lifeline::Lifeline;
use mesh::node::sandbox::ip_batch;
use mesh::state;

/// What a node is started with.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Settings {
    pub(super) number: Number,
    pub(super) layout: Layout,
    pub(super) programs: Vec<Program>,
}

impl Settings {
    pub(super) fn write(&self) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("encode the node's settings")?;
        state::write_atomically(&self.layout.settings(), &text)
    }

    pub(super) fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
    }
}

/// Who runs.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Running {
    pub(super) number: Number,
    /// Pid of the supervisor.
    pub(super) supervisor: u32,
    /// Its start time in clock ticks since boot.
    pub(super) start_time: u64,
    /// Pid of the node as the host sees it.
    pub(super) node: u32,
}

impl Running {
    /// The node that runs in `layout`, if one does.
    ///
    /// # Errors
    /// When the state file cannot be read or understood.
    pub fn find(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.state();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let found: Self = serde_json::from_slice(&text)
            .with_context(|| format!("understand {}; remove it if nothing runs", path.display()))?;
        Ok((state::start_time(found.supervisor) == Some(found.start_time)).then_some(found))
    }
}

/// Runs a node until it ends.
///
/// # Errors
/// When the kernel refuses namespaces, control groups or the cable.
pub(super) fn supervise(path: &Path) -> Result<ExitCode> {
    let settings = Settings::read(path)?;
    nix::unistd::setsid().context("leave the terminal's session")?;
    let group = settings.number.cgroup();
    // What a supervisor that was killed could not remove any more.
    cgroup::remove(&group)?;
    cgroup::create(&group)?;
    let status = run(path, &settings);
    let removed = cgroup::remove(&group).and_then(|()| settings.layout.tidy());
    // Commands wait for the removal of this file, so it goes last.
    let forgotten = std::fs::remove_file(settings.layout.state()).context("remove the state file");
    let status = status?;
    removed?;
    forgotten?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Namespaces belong to threads: one makes those of the node and starts it there, while this one
/// lays the cable between the host's network and that thread's.
fn run(path: &Path, settings: &Settings) -> Result<ExitStatus> {
    let (made_tx, made) = mpsc::channel();
    let (laid_tx, laid) = mpsc::channel::<()>();
    let (started_tx, started) = mpsc::channel();
    let config = path.to_owned();
    let node = std::thread::spawn(move || -> Result<ExitStatus> {
        unshare(
            CloneFlags::CLONE_NEWNET
                | CloneFlags::CLONE_NEWNS
                | CloneFlags::CLONE_NEWPID
                | CloneFlags::CLONE_NEWIPC
                | CloneFlags::CLONE_NEWUTS,
        )
        .context("make the node's namespaces")?;
        made_tx
            .send(nix::unistd::gettid())
            .context("report the namespaces")?;
        laid.recv().context("no cable was laid")?;
        let mut child = Command::new("/proc/self/exe")
            .arg("node")
            .arg(&config)
            .spawn()
            .context("start the node")?;
        started_tx.send(child.id()).context("report the node")?;
        // The node is tied to this thread, which therefore waits for it.
        child.wait().context("wait for the node")
    });
    let outcome = (|| -> Result<()> {
        let thread = made.recv().context("no namespaces were made")?;
        lay_cable(settings.number, thread.as_raw())?;
        laid_tx.send(()).context("the node's thread is gone")?;
        let node = started.recv().context("the node did not start")?;
        let own = std::process::id();
        let running = Running {
            number: settings.number,
            supervisor: own,
            start_time: state::start_time(own).context("read the own start time")?,
            node,
        };
        let text = serde_json::to_vec_pretty(&running).context("encode the state")?;
        state::write_atomically(&settings.layout.state(), &text)?;
        close_standard_output()
    })();
    drop(laid_tx);
    let ended = node
        .join()
        .map_err(|_| anyhow::anyhow!("the node's thread panicked"))?;
    outcome.and(ended)
}

/// A pair of interfaces, one of them in the network of `thread`, and the ways to Pods and
/// Services; all of it goes with that network.
fn lay_cable(number: Number, thread: i32) -> Result<()> {
    let (host, inner) = (number.host_link(), number.node_link());
    let (address, node) = (number.host(), number.node());
    ip_batch(&format!(
        "link add {host} type veth peer name {inner} netns {thread}\n\
         address add {address}/24 dev {host}\n\
         link set {host} up\n\
         route add {} via {node}\n\
         route add {} via {node}\n",
        number.pods(),
        number.services(),
    ))
    .context("lay the cable to the node")
}

/// The node's copy is the one that counts: its end is the end of the announcement.
fn close_standard_output() -> Result<()> {
    let null = File::options()
        .write(true)
        .open("/dev/null")
        .context("open /dev/null")?;
    nix::unistd::dup2_stdout(&null).context("close the standard output")
}

/// Starts a supervisor for `settings`.
///
/// # Errors
/// When `program` cannot be started or the node does not begin; the text carries its log.
pub(super) fn start(program: &Path, settings: &Settings) -> Result<Lifeline> {
    settings.write()?;
    let mut command = Command::new(program);
    let log = settings.layout.logs().join("node.log");
    let config = settings.layout.settings();
    Lifeline::start(command.arg("supervise").arg(config), &log)
}
