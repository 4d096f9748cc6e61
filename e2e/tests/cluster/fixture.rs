//! A cluster with the mesh on it.

use std::path::{Path, PathBuf};
use std::sync::LazyLock;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, anyhow};
use cluster::address::Number;
use cluster::image::build;
use cluster::layout::Layout;
use cluster::platform::InCluster;
use cluster::pod::Pod;
use cluster::start::{self, Options, Started};
use cluster::tools::Tools;
use cluster::{Cluster, packages};
use mesh::platform::World;
use mesh::start::binaries;
use parking_lot::{Mutex, MutexGuard};
use serde_json::Value;

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(120);
/// Namespace of the control plane.
pub(crate) const ISTIO: &str = "istio-system";
/// The charts in the order in which they are installed, with the names of their releases.
pub(crate) const RELEASES: [(&str, &str); 6] = [
    ("istio-init", "istio-init"),
    ("istio-config", "istio-config"),
    ("citadel", "citadel"),
    ("galley", "galley"),
    ("pilot", "pilot"),
    ("sidecar-injector", "sidecar-injector"),
];
/// Values of every installation: one file serves all charts. Requests of a test's node are small.
const VALUES: &str = "e2e/tests/cluster/values.yaml";
/// What `cargo xtask test --cluster` sets.
const ASKED: &str = "KEELSON_TEST_CLUSTER";

/// A cluster that ends with the program.
pub(crate) struct Machine {
    started: Started,
    target: PathBuf,
}

impl Machine {
    /// Starts the cluster with this number and loads the project's images.
    pub(crate) fn start(number: u8) -> Result<Self> {
        packages::ensure()?;
        let program = binaries::build_package("cluster")?;
        let target = program.ancestors().nth(2).context("no target directory")?;
        let archives = build::development(target)?;
        let started = start::start(Options {
            number: Number::new(number).context("a number too large")?,
            layout: Layout::new(target.join("cluster").join(number.to_string())),
            program: program.clone(),
            tools: Tools::find_or_build(target)?,
        })?;
        for archive in archives {
            started.cluster.load(&archive)?;
        }
        Ok(Self {
            started,
            target: target.to_owned(),
        })
    }

    pub(crate) fn cluster(&self) -> &Cluster {
        &self.started.cluster
    }

    pub(crate) fn world(&self) -> World {
        World::new(InCluster::new(self.cluster().clone()))
    }

    /// A running Pod, as the host sees it.
    pub(crate) async fn pod(&self, name: &str) -> Result<Pod> {
        InCluster::new(self.cluster().clone()).pod(name).await
    }

    pub(crate) fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        self.cluster().kubectl().run(arguments)
    }

    /// Images of the control plane's Pods, but for those that are ending.
    pub(crate) fn images(&self) -> Result<Vec<String>> {
        let pods = self.pods("")?;
        let containers = pods
            .iter()
            .filter_map(|pod| pod["spec"]["containers"].as_array())
            .flatten();
        let images = containers.filter_map(|container| container["image"].as_str());
        Ok(images.map(str::to_owned).collect())
    }

    /// Pods of the control plane with a label, all if it is empty, but for those that are ending.
    pub(crate) fn pods(&self, label: &str) -> Result<Vec<Value>> {
        let arguments = ["get", "pods", "-n", ISTIO, "-l", label];
        let mut all = self.cluster().kubectl().json(&arguments)?;
        let items = all["items"].as_array_mut().map(std::mem::take);
        let mut pods = items.unwrap_or_default();
        pods.retain(|pod| pod["metadata"].get("deletionTimestamp").is_none());
        Ok(pods)
    }

    /// The target directory that this was built in.
    pub(crate) fn target(&self) -> &Path {
        &self.target
    }

    pub(crate) fn helm(&self, arguments: &[&str]) -> Result<String> {
        self.cluster().helm().run(arguments)
    }

    /// Installs or upgrades a chart of the repository; with `wait` until its Pods are ready.
    pub(crate) fn install(&self, release: &str, chart: &str, options: &[&str]) -> Result<()> {
        let (chart, values) = (path(&format!("helm/{chart}")), path(VALUES));
        let (chart, values) = (chart.display().to_string(), values.display().to_string());
        let common = ["upgrade", "--install", release, &chart, "-f", &values];
        let common = [&common[..], &["-n", ISTIO, "--create-namespace"]].concat();
        let begun = Instant::now();
        self.helm(&[&common[..], options].concat())?;
        println!(
            "helm: {release} after {:.1} s",
            begun.elapsed().as_secs_f64()
        );
        Ok(())
    }

    /// Installs the control plane in the documented order.
    pub(crate) fn install_mesh(&self) -> Result<()> {
        for (release, chart) in RELEASES {
            self.install(release, chart, &["--wait", "--timeout=2m"])?;
        }
        Ok(())
    }

    /// The sample of the first steps, unchanged.
    pub(crate) async fn install_samples(&self) -> Result<()> {
        let sources = mesh::start::samples()?;
        let world = self.world();
        world.apply(&sources).await?;
        world.settle(LIMIT).await
    }
}

/// A path of the repository.
pub(crate) fn path(name: &str) -> PathBuf {
    binaries::workspace().join(name)
}

/// Whether tests on a cluster were asked for; says so when not.
pub(crate) fn is_asked() -> bool {
    let asked = std::env::var_os(ASKED).is_some();
    if !asked {
        println!("SKIPPED tests on a cluster: cargo xtask test --cluster runs them");
    }
    asked
}

type Shared = Result<Machine, String>;

static SHARED: LazyLock<Mutex<Shared>> = LazyLock::new(|| Mutex::new(start_shared()));

fn start_shared() -> Shared {
    let start = || -> Result<Machine> {
        let machine = Machine::start(1)?;
        machine.install_mesh().map_err(|error| {
            // What the Pods say is what somebody needs to know now.
            let pods = machine.kubectl(&["get", "pods,events", "-A"]);
            anyhow!("{error:#}\n{}", pods.unwrap_or_default())
        })?;
        runtime()?.block_on(machine.install_samples())?;
        Ok(machine)
    };
    start().map_err(|error| format!("{error:#}"))
}

pub(crate) fn runtime() -> Result<tokio::runtime::Runtime> {
    // Somebody else may have been first; there is one provider.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    tokio::runtime::Runtime::new().context("start a runtime")
}

/// The cluster of most tests, for one of them at a time.
pub(crate) struct Turn(MutexGuard<'static, Shared>);

impl Turn {
    pub(crate) fn take() -> Result<Self> {
        // A test that failed leaves a cluster that others can go on with, or fail with.
        let guard = SHARED.lock();
        match &*guard {
            Ok(_) => Ok(Self(guard)),
            Err(error) => Err(anyhow!("the mesh was not installed: {error}")),
        }
    }
}

impl std::ops::Deref for Turn {
    type Target = Machine;

    fn deref(&self) -> &Machine {
        match &*self.0 {
            Ok(machine) => machine,
            Err(error) => panic!("{error}"),
        }
    }
}

/// Whether a file is one of values of `chart`, such as `ci/galley-default.yaml`.
pub(crate) fn cases(chart: &str) -> Result<Vec<PathBuf>> {
    let directory = path("helm/ci");
    let mut found = Vec::new();
    for entry in std::fs::read_dir(&directory).context("read helm/ci")? {
        let file = entry?.path();
        let stem = file
            .file_stem()
            .and_then(|stem| stem.to_str())
            .unwrap_or_default();
        if stem.starts_with(&format!("{chart}-")) && chart_of(stem) == Some(chart) {
            found.push(file);
        }
    }
    found.sort();
    Ok(found)
}

/// The chart with the longest name that `stem` begins with.
fn chart_of(stem: &str) -> Option<&str> {
    let charts = std::fs::read_dir(path("helm")).ok()?;
    charts
        .flatten()
        .filter(|entry| Path::new(&entry.path()).join("Chart.yaml").exists())
        .filter_map(|entry| entry.file_name().into_string().ok())
        .filter(|name| stem.starts_with(&format!("{name}-")))
        .max_by_key(String::len)
        .and_then(|name| stem.get(..name.len()))
}
