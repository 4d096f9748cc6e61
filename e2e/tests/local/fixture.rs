//! The mesh with the samples, and what the tests do with it.

use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use mesh::handle::Mesh;
use mesh::layout::Layout;
use mesh::start::{self, Options, Started, binaries, envoy, tools};
use mesh::wait::wait_until;
use tokio::sync::{Mutex, MutexGuard};

/// How long anything may take.
pub(crate) const LIMIT: Duration = Duration::from_secs(60);
/// The virtual host of reviews in a sidecar.
pub(crate) const REVIEWS: &str = "reviews.default.svc.cluster.local:9080";

static TURN: Mutex<()> = Mutex::const_new(());

/// The program with the node's sub-commands, built from this workspace.
pub(crate) fn program() -> Result<PathBuf> {
    binaries::build_package("mesh")
}

/// Waits until no other test runs a mesh: they would share two cores.
pub(crate) async fn turn() -> MutexGuard<'static, ()> {
    TURN.lock().await
}

/// A mesh with control plane and samples, ended when dropped.
pub(crate) struct Whole {
    started: Started,
    _directory: tempfile::TempDir,
    _turn: MutexGuard<'static, ()>,
}

impl Whole {
    /// Starts it and waits until every Pod is ready; reviews is served by version 1.
    pub(crate) async fn start() -> Result<Self> {
        let turn = turn().await;
        let directory = tempfile::tempdir()?;
        let (program, programs) = tokio::task::spawn_blocking(|| {
            tools::ensure()?;
            let mut programs = binaries::build(false)?;
            let own = program()?;
            let target = own.ancestors().nth(2).context("no target directory")?;
            programs.insert("envoy".to_owned(), envoy::find(None, target)?);
            anyhow::Ok((own, programs))
        })
        .await??;
        let started = start::start(Options {
            layout: Layout::new(directory.path().to_owned()),
            program,
            binaries: programs,
            control_plane: true,
            sources: start::samples()?,
            log_filter: "info".to_owned(),
        })
        .await?;
        let whole = Self {
            started,
            _directory: directory,
            _turn: turn,
        };
        whole.mesh().wait_settled(LIMIT).await?;
        whole
            .apply("manifests/bookinfo/virtual-service-all-v1.yaml")
            .await?;
        whole.reviews_go_to("default/sleep", "v1").await?;
        Ok(whole)
    }

    pub(crate) fn mesh(&self) -> &Mesh {
        &self.started.mesh
    }

    /// Applies a file below `samples/`.
    pub(crate) async fn apply(&self, file: &str) -> Result<()> {
        let path = binaries::workspace().join("samples").join(file);
        let sources = mesh::manifest::read_paths(&[path])?;
        self.mesh().apply_sources(&sources).await?;
        Ok(())
    }

    /// Waits until the proxy of `pod` sends all requests for reviews to one version.
    pub(crate) async fn reviews_go_to(&self, pod: &str, version: &str) -> Result<()> {
        let cluster = format!("\"outbound|9080|{version}|reviews.default.svc.cluster.local\"");
        let envoy = self.mesh().envoy(pod);
        wait_until("the route of reviews", LIMIT, || async {
            let host = envoy.virtual_host("9080", REVIEWS).await?.to_string();
            ensure!(host.contains(&cluster), "it is {host}");
            Ok(())
        })
        .await
    }

    /// The version of reviews that answers `pod`.
    pub(crate) async fn reviews_answer(&self, pod: &str) -> Result<String> {
        let http = self.mesh().http_from_without_reuse(pod);
        let answer = http.get("http://reviews:9080/reviews/0").await?;
        ensure!(answer.status == 200, "{}", answer.status);
        Ok(answer.header("x-app-version").to_owned())
    }

    /// The log of a container of the control plane.
    pub(crate) async fn log(&self, pod: &str) -> Result<String> {
        let status = self.mesh().status(false).await?;
        let path = &status.pod_named(pod)?.container_named(None)?.log;
        std::fs::read_to_string(path).with_context(|| path.display().to_string())
    }

    /// A counter or gauge of pilot, summed over its labels.
    pub(crate) async fn pilot_metric(&self, name: &str) -> Result<f64> {
        let url = "http://istio-pilot.istio-system.svc:15014/metrics";
        let http = self.mesh().http_from_without_reuse("default/sleep");
        let text = http.get(url).await?.text();
        let mut values = text
            .lines()
            .filter(|line| line.starts_with(name) && !line.starts_with('#'))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<f64>().ok())
            .peekable();
        ensure!(values.peek().is_some(), "pilot has no metric {name}");
        Ok(values.sum())
    }

    /// Waits until pilot serves exactly the proxies of this mesh; how many that are.
    pub(crate) async fn all_proxies_connected(&self) -> Result<f64> {
        let status = self.mesh().status(false).await?;
        let proxies = status.pods.iter().filter(|pod| pod.injected).count();
        #[expect(clippy::cast_precision_loss, reason = "a handful of Pods")]
        let proxies = proxies as f64;
        wait_until("pilot serves all proxies", LIMIT, || async {
            let streams = self.pilot_metric("pilot_xds{").await?;
            ensure!(streams == proxies, "{streams} of {proxies}");
            Ok(())
        })
        .await?;
        Ok(proxies)
    }
}
