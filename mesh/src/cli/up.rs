//! `cargo mesh up`.

use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, bail};
use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};
use tokio::signal::unix::{SignalKind, signal};

use super::show;
use crate::handle::Mesh;
use crate::layout::Layout;
use crate::manifest;
use crate::node::report::Status;
use crate::say;
use crate::start::{self, Options, binaries, envoy, tools};
use crate::terminal::print_json;

#[derive(Debug, Args)]
pub(super) struct Up {
    /// Files and directories with manifests [default: the samples]
    paths: Vec<PathBuf>,
    /// Build and run optimised binaries
    #[arg(long)]
    release: bool,
    /// Use the binaries that are there instead of building
    #[arg(long)]
    no_build: bool,
    /// Stay until Ctrl-C and end the mesh then
    #[arg(long)]
    foreground: bool,
    /// An Envoy to use instead of the fetched one
    #[arg(long, value_name = "PATH")]
    envoy: Option<PathBuf>,
    /// Seconds to wait for all Pods
    #[arg(long, default_value_t = 120, value_name = "SECONDS")]
    timeout: u64,
}

pub(super) async fn up(up: Up, layout: Layout, json: bool) -> Result<ExitCode> {
    if let Some(state) = crate::state::RunState::running(&layout)? {
        bail!(
            "a mesh is already up (pid {}); `cargo mesh down` ends it",
            state.pid
        );
    }
    let target = binaries::target_directory()?;
    let sources = if up.paths.is_empty() {
        start::samples()?
    } else {
        manifest::read_paths(&up.paths)?
    };
    for source in &sources {
        manifest::parse(source)?;
    }
    tools::ensure()?;
    let mut programs = if up.no_build {
        let profile = if up.release { "release" } else { "debug" };
        binaries::existing(&target.join(profile))?
    } else {
        binaries::build(up.release)?
    };
    programs.insert("envoy".to_owned(), envoy::find(up.envoy.clone(), &target)?);
    let begun = Instant::now();
    let options = Options {
        layout: layout.clone(),
        program: std::env::current_exe().context("find the own program")?,
        binaries: programs,
        control_plane: true,
        sources,
        log_filter: crate::env::log_filter(),
    };
    let mut interrupts = Interrupts::new()?;
    let started = tokio::select! {
        started = start::start(options) => started?,
        () = interrupts.next() => bail!("interrupted; nothing is left"),
    };
    let waited = tokio::select! {
        waited = follow(&started.mesh, Duration::from_secs(up.timeout), json) => waited,
        () = interrupts.next() => Err(anyhow::anyhow!("interrupted; everything was ended")),
    };
    let status = match waited {
        Ok(status) => status,
        Err(error) => {
            started.end()?;
            return Err(error.context(format!("logs are in {}", layout.logs().display())));
        }
    };
    let elapsed = begun.elapsed();
    if json {
        print_json(&serde_json::json!({
            "ready_seconds": elapsed.as_secs_f64(),
            "status": status,
        }))?;
    } else {
        greet(&status, elapsed);
    }
    if !up.foreground {
        started.detach()?;
        return Ok(ExitCode::SUCCESS);
    }
    if !json {
        say!("\nCtrl-C ends the mesh");
    }
    stay(started, &mut interrupts).await
}

async fn stay(mut started: start::Started, interrupts: &mut Interrupts) -> Result<ExitCode> {
    let mut tick = tokio::time::interval(Duration::from_millis(500));
    loop {
        tokio::select! {
            () = interrupts.next() => {
                started.end()?;
                return Ok(ExitCode::SUCCESS);
            }
            _ = tick.tick() => if started.has_ended()? {
                // `mesh down` from elsewhere, or a crash that the log tells of.
                return Ok(ExitCode::SUCCESS);
            },
        }
    }
}

struct Interrupts {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Interrupts {
    fn new() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("listen for SIGTERM")?,
        })
    }

    async fn next(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// Shows progress until all Pods are ready.
async fn follow(mesh: &Mesh, limit: Duration, json: bool) -> Result<Status> {
    let shown = !json && std::io::stderr().is_terminal();
    let bar = if shown {
        ProgressBar::new(0)
    } else {
        ProgressBar::hidden()
    };
    let style =
        ProgressStyle::with_template("{spinner} [{elapsed}] {pos}/{len} Pods ready  {wide_msg}")
            .context("the style of the progress bar")?;
    bar.set_style(style);
    bar.enable_steady_tick(Duration::from_millis(120));
    let result = mesh
        .wait_status("all Pods ready", limit, |status| {
            bar.set_length(u64::try_from(status.pods.len()).unwrap_or(u64::MAX));
            bar.set_position(
                u64::try_from(status.pods.iter().filter(|pod| pod.ready).count()).unwrap_or(0),
            );
            let waiting = status.pods.iter().find(|pod| !pod.ready);
            bar.set_message(
                waiting
                    .map(|pod| format!("{}: {}", pod.workload, show::state(pod)))
                    .unwrap_or_default(),
            );
            status.settled
        })
        .await;
    bar.finish_and_clear();
    if result.is_err()
        && !json
        && let Ok(status) = mesh.status(true).await
    {
        show::status(&status, false);
        bail!("not all Pods became ready within {limit:?}");
    }
    result
}

fn greet(status: &Status, elapsed: Duration) {
    say!(
        "the mesh is up: {} Pods ready after {:.1} s\n",
        status.pods.len(),
        elapsed.as_secs_f64()
    );
    let gateway = |port: u16| {
        status
            .published
            .iter()
            .find(|published| published.target.port == port)
            .map(|published| published.address)
    };
    if let Some(address) = gateway(80) {
        say!("  product page   http://{address}/productpage");
    }
    if let Some(address) = gateway(443) {
        say!("  ingress, TLS   https://{address}");
    }
    say!("  objects        {}", status.objects.display());
    say!(
        "\ntry next:\n\
         \x20 cargo mesh status                        Pods, memory, CPU\n\
         \x20 cargo mesh check                         every task of the samples with real requests\n\
         \x20 cargo mesh apply samples/tasks/request-routing/virtual-service-reviews-test-v2.yaml\n\
         \x20                                          then sign in as jason on the product page\n\
         \x20 cargo mesh exec sleep -- samples request http://reviews:9080/reviews/0\n\
         \x20 cargo mesh logs productpage-v1 istio-proxy -f\n\
         \x20 cargo mesh down"
    );
}
