//! The command `proxy`, which runs for the lifetime of a Pod.

use std::{
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::bail;
use mesh_common::{
    drain,
    metrics::Registry,
    tasks::{Supervisor, supervise},
};
use tokio::sync::watch;

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

/// Time that tasks have to end after Envoy did.
const TASKS: Duration = Duration::from_secs(1);

/// Inputs other than flags and environment.
#[derive(Debug, Clone, Default)]
pub struct Surroundings {
    /// Locations of well-known files.
    pub paths: Paths,
    /// This program, which then starts Envoy; `None` to start Envoy directly.
    pub launcher: Option<PathBuf>,
    /// Log lines are JSON.
    pub log_as_json: bool,
}

/// Runs Envoy until it exits or `shutdown` completes.
///
/// # Errors
/// If the configuration is invalid, ports are in use, or Envoy does not exit with status 0.
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
    let (trigger, watch) = drain::channel();
    let (tasks, mut supervisor) = supervise(&registry, watch);

    let server =
        Arc::new(plan.status_server(&registry, &metrics, secrets.subscribe(), &lifecycle)?);
    let drain = server.drain;
    let listener = status::listen(plan.families.wildcard(), plan.config().status_port).await?;
    tasks.keep_until_drain("status server", status::serve(listener, server));
    plan.start_secrets(secrets, &metrics, &tasks).await?;

    let bootstrap = plan.write_bootstrap()?;
    let arguments = plan.arguments(&bootstrap)?;
    let binary = Path::new(&plan.config().binary_path);
    let mut envoy = Envoy::start(binary, &arguments, surroundings.launcher.as_ref())?;
    tracing::info!(
        pid = envoy.pid(),
        arguments = arguments.join(" "),
        "Envoy started"
    );
    tasks.keep_until_drain("orphans", reap_orphans(envoy.pid()));
    drop(tasks);

    let result = follow(&mut envoy, &lifecycle, &drain, &mut supervisor, shutdown).await;
    if plan.config().custom_config_file.is_empty()
        && let Err(error) = fs::remove_file(&bootstrap)
    {
        tracing::debug!(%error, "cannot remove the bootstrap file");
    }
    trigger.drain(TASKS).await;
    result
}

/// Waits until Envoy has ended, by itself or because the agent must end.
async fn follow(
    envoy: &mut Envoy,
    lifecycle: &Lifecycle,
    drain: &Drain,
    supervisor: &mut Supervisor,
    shutdown: impl Future<Output = ()>,
) -> anyhow::Result<()> {
    let mut failure = None;
    tokio::select! {
        status = envoy.wait() => {
            let status = status?;
            lifecycle.advance(Phase::Ending);
            if status.success() {
                tracing::info!("Envoy exited");
                return Ok(());
            }
            bail!("Envoy exited unexpectedly: {}", describe(status));
        }
        () = shutdown => tracing::info!("terminating"),
        () = lifecycle.ending() => {}
        // The other tasks run as long as Envoy does.
        error = supervisor.failed() => failure = Some(error),
    }
    if lifecycle.advance(Phase::Ending) == Phase::Running {
        tokio::select! {
            status = envoy.wait() => {
                tracing::info!(status = describe(status?), "Envoy exited while draining");
                return Ok(());
            }
            () = drain.run() => {}
        }
    }
    envoy.kill().await?;
    tracing::info!("Envoy killed");
    match failure {
        Some(error) => Err(error.context("a task of the agent failed, so Envoy was killed")),
        None => Ok(()),
    }
}
