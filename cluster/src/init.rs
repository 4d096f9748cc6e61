//! Pid 1 of the node: mounts, interfaces, and the programs, which are started again when they
//! end and held back while a file says so.

use std::fs::{self, File};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::sync::mpsc::{RecvTimeoutError, channel};
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use nix::errno::Errno;
use nix::mount::{MsFlags, mount};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

use crate::address::Number;
use crate::launch::Settings;
use crate::layout::Layout;
use crate::programs::Program;
use mesh::lifeline;
use mesh::node::root;
use mesh::node::sandbox::ip_batch;

/// How often ended programs and files are looked at.
const TICK: Duration = Duration::from_millis(50);
/// Between the end of a program and its next start.
const PAUSE: Duration = Duration::from_secs(1);

/// Directories where the node has files of its own.
const PRIVATE: [&str; 3] = ["/run", "/var/lib", "/var/log"];
const DIRECTORIES: [&str; 9] = [
    "/run/lock",
    "/run/netns",
    "/run/containerd",
    "/var/lib/kubelet",
    "/var/lib/cni",
    "/var/lib/containerd",
    "/var/lib/etcd",
    "/var/log/pods",
    "/var/log/containers",
];

/// Runs the node; returns when the process that started it is gone without having let it go.
///
/// # Errors
/// When a mount, an interface or a log is refused.
pub(super) fn run(path: &Path) -> Result<ExitCode> {
    nix::sys::prctl::set_pdeathsig(Signal::SIGKILL).context("tie the node to its supervisor")?;
    let settings = Settings::read(path)?;
    nix::unistd::sethostname("node0").context("set the host name")?;
    mount_all(&settings.layout)?;
    set_up_network(settings.number)?;
    let (end, ended) = channel::<()>();
    std::thread::spawn(move || {
        if lifeline::was_let_go() {
            // The sender must live on: its end would be the node's.
            std::mem::forget(end);
        }
    });
    lifeline::announce()?;
    let mut slots: Vec<Slot> = settings.programs.into_iter().map(Slot::new).collect();
    loop {
        reap(&mut slots)?;
        for slot in &mut slots {
            slot.tend(&settings.layout)?;
        }
        match ended.recv_timeout(TICK) {
            Err(RecvTimeoutError::Timeout) => {}
            _ => break,
        }
    }
    Ok(ExitCode::SUCCESS)
}

fn mount_all(layout: &Layout) -> Result<()> {
    root::private_mounts()?;
    root::mount_proc(Path::new("/proc"))?;
    let none: Option<&str> = None;
    for target in PRIVATE {
        mount(Some("tmpfs"), target, Some("tmpfs"), MsFlags::empty(), none)
            .with_context(|| format!("mount a tmpfs at {target}"))?;
    }
    for directory in DIRECTORIES {
        fs::create_dir_all(directory).with_context(|| format!("make {directory}"))?;
    }
    // Unpacked images are too large for memory; logs of Pods stay when the node ends.
    for (source, target) in [
        (layout.containerd(), "/var/lib/containerd"),
        (layout.pods(), "/var/log/pods"),
    ] {
        mount(Some(&source), target, none, MsFlags::MS_BIND, none)
            .with_context(|| format!("mount {} at {target}", source.display()))?;
    }
    // What the kubelet mounts for a Pod must be seen by containers, and the other way round.
    for target in ["/run", "/var/lib"] {
        mount(none, target, none, MsFlags::MS_SHARED, none)
            .with_context(|| format!("share {target}"))?;
    }
    Ok(())
}

fn set_up_network(number: Number) -> Result<()> {
    let link = number.node_link();
    ip_batch(&format!(
        "link set lo up\n\
         address add {}/24 dev {link}\n\
         link set {link} up\n\
         route add default via {}\n",
        number.node(),
        number.host(),
    ))?;
    let forward = "/proc/sys/net/ipv4/ip_forward";
    fs::write(forward, "1").with_context(|| format!("write {forward}"))?;
    // Without it replies on one bridge skip the translation of Services. Kernels without
    // bridge netfilter do not have the switch.
    let bridge = Path::new("/proc/sys/net/bridge/bridge-nf-call-iptables");
    if bridge.exists() {
        fs::write(bridge, "1").with_context(|| format!("write {}", bridge.display()))?;
    }
    Ok(())
}

/// A program and the process that it is at the moment.
struct Slot {
    program: Program,
    pid: Option<Pid>,
    /// Not started before.
    due: Instant,
}

impl Slot {
    fn new(program: Program) -> Self {
        Self {
            program,
            pid: None,
            due: Instant::now(),
        }
    }

    /// Starts what should run and kills what should not.
    fn tend(&mut self, layout: &Layout) -> Result<()> {
        let is_stopped = layout.stopped().join(&self.program.name).exists();
        match self.pid {
            Some(pid) if is_stopped => match kill(pid, Signal::SIGKILL) {
                Ok(()) | Err(Errno::ESRCH) => Ok(()),
                Err(error) => Err(error).with_context(|| format!("kill {}", self.program.name)),
            },
            None if !is_stopped && self.due <= Instant::now() => self.start(layout),
            _ => Ok(()),
        }
    }

    fn start(&mut self, layout: &Layout) -> Result<()> {
        let path = layout.logs().join(format!("{}.log", self.program.name));
        let log = File::options()
            .create(true)
            .append(true)
            .open(&path)
            .with_context(|| format!("open {}", path.display()))?;
        let errors = log.try_clone().context("copy a descriptor")?;
        let child = Command::new(&self.program.path)
            .args(&self.program.arguments)
            .stdin(Stdio::null())
            .stdout(log)
            .stderr(errors)
            .spawn()
            .with_context(|| format!("start {}", self.program.path.display()))?;
        let pid = i32::try_from(child.id()).context("a pid out of range")?;
        self.pid = Some(Pid::from_raw(pid));
        Ok(())
    }
}

/// Collects everything that ended: programs, and what they left to pid 1.
fn reap(slots: &mut [Slot]) -> Result<()> {
    loop {
        let status = match waitpid(None, Some(WaitPidFlag::WNOHANG)) {
            Ok(WaitStatus::StillAlive) | Err(Errno::ECHILD) => return Ok(()),
            Err(Errno::EINTR) => continue,
            other => other.context("wait for children")?,
        };
        if let Some(slot) = slots.iter_mut().find(|slot| slot.pid == status.pid()) {
            eprintln!("{} ended: {status:?}", slot.program.name);
            slot.pid = None;
            slot.due = Instant::now() + PAUSE;
        }
    }
}
