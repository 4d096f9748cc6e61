//! Starting a cluster.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};

use crate::address::Number;
use crate::files::PAUSE_IMAGE;
use crate::handle::Cluster;
use crate::image::{Entry, Image};
use crate::kubectl::Client;
use crate::launch::{self, Running, Settings};
use crate::layout::{self, Layout};
use crate::patience::{Seen, until};
use crate::tools::Tools;
use crate::{files, pki, programs};
use mesh::lifeline::Lifeline;

/// How long each thing that is waited for may take.
const PATIENCE: Duration = Duration::from_secs(90);

/// What a cluster is started with.
#[derive(Clone, Debug)]
pub struct Options {
    /// Its number.
    pub number: Number,
    /// Where it keeps its files.
    pub layout: Layout,
    /// The program with the node's sub-commands (`cluster`).
    pub program: PathBuf,
    /// Kubernetes itself.
    pub tools: Tools,
}

/// A cluster that ends with this value, unless it is let go.
#[derive(Debug)]
pub struct Started {
    /// The cluster.
    pub cluster: Cluster,
    lifeline: Lifeline,
}

impl Started {
    /// Lets the cluster live on after this process.
    ///
    /// # Errors
    /// When the node has ended.
    pub fn detach(self) -> Result<Cluster> {
        self.lifeline.detach()?;
        Ok(self.cluster)
    }

    /// Ends the cluster and waits until nothing is left but logs.
    ///
    /// # Errors
    /// See [`Cluster::down`].
    pub fn end(self) -> Result<()> {
        self.cluster.down()?;
        self.lifeline.end()
    }
}

/// Starts a cluster and returns when its node is ready.
///
/// # Errors
/// When one is up in the same place, or a part does not start; the text names its log.
pub fn start(options: Options) -> Result<Started> {
    let Options {
        number,
        layout,
        program,
        tools,
    } = options;
    clear(&layout)?;
    let own = layout.root();
    for (directory, reason) in [("/run", "run"), ("/var/lib", "state"), ("/var/log", "logs")] {
        ensure!(
            !own.starts_with(directory),
            "{} is below {directory}, where the node's {reason} will be: choose another directory",
            own.display()
        );
    }
    for directory in [
        layout.pki(),
        layout.config(),
        layout.logs(),
        layout.pods(),
        layout.containerd(),
        layout.stopped(),
        layout.helm(),
    ] {
        fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    }
    pki::write(&layout, number)?;
    files::write(&layout, number)?;
    let pause = layout.config().join("pause.tar");
    pause_image(&tools)?.write(&pause)?;
    for name in programs::LATE {
        fs::write(layout.stopped().join(name), "").context("hold a program back")?;
    }
    let settings = Settings {
        number,
        layout: layout.clone(),
        programs: programs::all(&tools, &layout, number),
    };
    let started = launch(&program, &settings, tools)?;
    make_ready(&started.cluster, &pause)
        .with_context(|| format!("logs are in {}", layout.logs().display()))?;
    Ok(started)
}

fn launch(program: &Path, settings: &Settings, tools: Tools) -> Result<Started> {
    let lifeline = launch::start(program, settings)?;
    let layout = settings.layout.clone();
    until("the supervisor's state file", PATIENCE, || {
        let is_there = Running::find(&layout)?.is_some();
        Ok(Seen::when(is_there, "it is not written"))
    })?;
    Ok(Started {
        cluster: Cluster::attach(layout, tools)?,
        lifeline,
    })
}

/// Waits for each part in turn, and gives the cluster what it needs for its first Pod.
fn make_ready(cluster: &Cluster, pause: &Path) -> Result<()> {
    let kubectl = cluster.kubectl();
    until("containerd", PATIENCE, || {
        Ok(match cluster.load(pause) {
            Ok(()) => Seen::There(()),
            Err(error) => Seen::Not(format!("{error:#}")),
        })
    })?;
    // As long as it does not answer, so does nothing that needs it.
    answers(
        &kubectl,
        "the API server",
        &["get", "--raw=/readyz", "--request-timeout=2s"],
    )?;
    for name in programs::LATE {
        cluster.resume(name)?;
    }
    let dns = cluster.layout().config().join("dns.yaml");
    kubectl.run(&[
        "apply".as_ref(),
        "--server-side".as_ref(),
        "--filename".as_ref(),
        dns.as_os_str(),
    ])?;
    answers(
        &kubectl,
        "the node",
        &[
            "wait",
            "--for=condition=Ready",
            "node/node0",
            "--timeout=1s",
        ],
    )?;
    // Pods are refused until the controller manager has made the account that they run as.
    answers(
        &kubectl,
        "the account of Pods",
        &["get", "serviceaccount", "default"],
    )
}

/// Waits until a command succeeds.
fn answers(kubectl: &Client, what: &str, arguments: &[&str]) -> Result<()> {
    until(what, PATIENCE, || {
        let output = kubectl.output(arguments)?;
        let said = String::from_utf8_lossy(&output.stderr);
        Ok(Seen::when(output.status.success(), said.trim()))
    })
}

fn pause_image(tools: &Tools) -> Result<Image> {
    let program = tools.program("pause");
    let bytes = fs::read(&program).with_context(|| format!("read {}", program.display()))?;
    Ok(Image {
        name: PAUSE_IMAGE.to_owned(),
        entries: vec![Entry::file("/pause", bytes, 0o755)],
        entry_point: vec!["/pause".to_owned()],
        user: "65534:65534".to_owned(),
        ..Image::default()
    })
}

fn clear(layout: &Layout) -> Result<()> {
    if let Some(running) = Running::find(layout)? {
        bail!(
            "a cluster is already up (pid {}); `cargo xtask cluster down` ends it",
            running.supervisor
        );
    }
    let root = layout.root();
    let is_ours = layout.settings().exists()
        || !root.exists()
        || fs::read_dir(root)
            .context("read the directory")?
            .next()
            .is_none();
    ensure!(
        is_ours,
        "{} holds something else: name another directory",
        root.display()
    );
    layout::remove(root)
}
