//! The command `proxy`: everything that runs for the life of a Pod.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::bail;
use mesh_common::metrics::Registry;
use tokio::{sync::watch, task::JoinSet};

use self::plan::Plan;
use crate::{
    args::ProxyFlags,
    env::Env,
    envoy::{
        drain::Drain,
        process::{Envoy, describe, reap_orphans},
    },
    lifecycle::{Lifecycle, Phase},
    secret::{Secrets, metrics::Metrics},
    settings::Paths,
    status,
};

mod launch;
mod parts;
mod plan;

/// What comes from outside of flags and environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Where well-known files are.
    pub paths: Paths,
    /// This program, to start Envoy through; `None` starts Envoy directly.
    pub launcher: Option<PathBuf>,
    /// Log lines are JSON.
    pub log_as_json: bool,
}

/// Runs Envoy until it exits or `shutdown` completes.
///
/// # Errors
/// Bad configuration, ports that are taken, or an Envoy that did not exit with 0.
pub async fn run(
    flags: &ProxyFlags,
    env: &Env,
    surroundings: &Surroundings,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let plan = Plan::read(flags, env, surroundings).await?;
    let lifecycle = Lifecycle::default();
    let registry = Registry::new("pilot-agent");
    let metrics = Metrics::new(&registry);
    let secrets = watch::Sender::new(Secrets::default());
    let mut tasks = JoinSet::new();

    let server =
        Arc::new(plan.status_server(&registry, &metrics, secrets.subscribe(), &lifecycle)?);
    let drain = server.drain;
    let listener = status::listen(plan.families.wildcard(), plan.config().status_port).await?;
    tasks.spawn(async move {
        if let Err(error) = status::serve(listener, server).await {
            tracing::error!(%error, "the status server failed");
        }
    });
    plan.start_secrets(secrets, &metrics, &mut tasks).await?;

    let bootstrap = plan.write_bootstrap()?;
    let arguments = plan.arguments(&bootstrap)?;
    let binary = Path::new(&plan.config().binary_path);
    let mut envoy = Envoy::start(binary, &arguments, surroundings.launcher.as_ref())?;
    tracing::info!(
        pid = envoy.pid(),
        arguments = arguments.join(" "),
        "Envoy started"
    );
    tasks.spawn(reap_orphans(envoy.pid()));

    let result = supervise(&mut envoy, &lifecycle, &drain, &mut tasks, shutdown).await;
    if plan.config().custom_config_file.is_empty()
        && let Err(error) = fs::remove_file(&bootstrap)
    {
        tracing::debug!(%error, "the bootstrap file was not removed");
    }
    result
}

async fn supervise(
    envoy: &mut Envoy,
    lifecycle: &Lifecycle,
    drain: &Drain,
    tasks: &mut JoinSet<()>,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut lost = false;
    tokio::select! {
        status = envoy.wait() => {
            let status = status?;
            lifecycle.advance(Phase::Ending);
            if status.success() {
                tracing::info!("Envoy exited");
                return Ok(());
            }
            bail!("Envoy ended: {}", describe(status));
        }
        () = shutdown => tracing::info!("told to end"),
        () = lifecycle.ending() => {}
        // Every part works as long as Envoy does.
        _ = tasks.join_next() => lost = true,
    }
    if lifecycle.advance(Phase::Ending) == Phase::Running {
        tokio::select! {
            status = envoy.wait() => {
                tracing::info!(status = describe(status?), "Envoy ended while it was draining");
                return Ok(());
            }
            () = drain.run() => {}
        }
    }
    envoy.kill().await?;
    tracing::info!("Envoy was ended");
    if lost {
        bail!("a part of the agent failed, Envoy was ended")
    } else {
        Ok(())
    }
}
