//! A cluster that is up.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::address::Number;
use crate::files::SOCKET;
use crate::kubectl::Client;
use crate::launch::Running;
use crate::layout::Layout;
use crate::patience::{Seen, until};
use crate::tools::Tools;

/// How long an end may take.
const END: Duration = Duration::from_secs(20);

/// What is needed to work with a cluster; dropping it changes nothing.
#[derive(Clone, Debug)]
pub struct Cluster {
    layout: Layout,
    running: Running,
    tools: Tools,
}

impl Cluster {
    /// The cluster that runs in `layout`.
    ///
    /// # Errors
    /// When none does.
    pub fn attach(layout: Layout, tools: Tools) -> Result<Self> {
        let Some(running) = Running::find(&layout)? else {
            bail!("no cluster is up; `cargo xtask cluster up` starts one");
        };
        Ok(Self {
            layout,
            running,
            tools,
        })
    }

    /// Where its files are.
    #[must_use]
    pub fn layout(&self) -> &Layout {
        &self.layout
    }

    /// From which its addresses follow.
    #[must_use]
    pub fn number(&self) -> Number {
        self.running.number
    }

    /// Pid of the node as the host sees it.
    #[must_use]
    pub fn node_pid(&self) -> u32 {
        self.running.node
    }

    /// `kubectl` as administrator.
    #[must_use]
    pub fn kubectl(&self) -> Client {
        Client::new(
            self.tools.program("kubectl"),
            vec![("KUBECONFIG", self.layout.kubeconfig())],
        )
    }

    /// `helm` as administrator.
    #[must_use]
    pub fn helm(&self) -> Client {
        let own = self.layout.helm();
        Client::new(
            self.tools.program("helm"),
            vec![
                ("KUBECONFIG", self.layout.kubeconfig()),
                ("HELM_CACHE_HOME", own.join("cache")),
                ("HELM_CONFIG_HOME", own.join("config")),
                ("HELM_DATA_HOME", own.join("data")),
            ],
        )
    }

    /// A command of the host that runs in the node's namespaces.
    #[must_use]
    pub fn in_node(&self, program: &str) -> Command {
        let mut command = Command::new("nsenter");
        command
            .arg(format!("--target={}", self.running.node))
            .args(["--mount", "--net", "--pid", "--uts", "--ipc", "--"])
            .arg(program);
        command
    }

    /// Loads an archive of images (OCI or Docker) into the node.
    ///
    /// # Errors
    /// When containerd refuses it; the text carries what it said.
    pub fn load(&self, archive: &Path) -> Result<()> {
        let archive = archive
            .canonicalize()
            .with_context(|| format!("find {}", archive.display()))?;
        let output = self
            .in_node("ctr")
            .args(["--address", SOCKET, "--namespace", "k8s.io"])
            .args(["images", "import", "--snapshotter", "overlayfs"])
            .arg(&archive)
            .output()
            .context("start nsenter")?;
        ensure!(
            output.status.success(),
            "load {}: {}",
            archive.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        Ok(())
    }

    /// Ends a program of the node, such as `kube-apiserver`, until [`Self::resume`].
    ///
    /// # Errors
    /// When there is no such program.
    pub fn stop(&self, program: &str) -> Result<()> {
        let marker = self.marker(program)?;
        fs::write(&marker, "").with_context(|| format!("write {}", marker.display()))
    }

    /// Starts a stopped program again.
    ///
    /// # Errors
    /// When there is no such program.
    pub fn resume(&self, program: &str) -> Result<()> {
        let marker = self.marker(program)?;
        match fs::remove_file(&marker) {
            Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
                Err(error).with_context(|| format!("remove {}", marker.display()))
            }
            _ => Ok(()),
        }
    }

    fn marker(&self, program: &str) -> Result<PathBuf> {
        let settings = crate::launch::Settings::read(&self.layout.settings())?;
        let names: Vec<&str> = settings
            .programs
            .iter()
            .map(|each| each.name.as_str())
            .collect();
        ensure!(
            names.contains(&program),
            "{program:?} is none of {}",
            names.join(", ")
        );
        Ok(self.layout.stopped().join(program))
    }

    /// Ends the cluster and waits until nothing of it is left but logs.
    ///
    /// # Errors
    /// When something is still there after twenty seconds; the text says what.
    pub fn down(self) -> Result<()> {
        let pid = i32::try_from(self.running.node).context("a pid out of range")?;
        kill(Pid::from_raw(pid), Signal::SIGKILL).context("end the node")?;
        let link = PathBuf::from("/sys/class/net").join(self.running.number.host_link());
        until("the end of the cluster", END, || {
            let runs = Running::find(&self.layout)?.is_some();
            let what = if runs {
                "its supervisor still runs"
            } else {
                "its interface is still there"
            };
            Ok(Seen::when(!runs && !link.exists(), what))
        })
    }
}
