//! The process: reads configuration and certificates, serves, and follows changes.

mod commands;

use crate::args::{Args, Command, NativeSidecars, Serve};
use crate::config::{Config, Files, Settings};
use crate::metrics::Metrics;
use crate::registration;
use crate::webhook::{self, Webhook};
use anyhow::Context as _;
use mesh_common::app::{self, App};
use mesh_common::fswatch::{self, Changes, WatchDied};
use mesh_common::readiness::{Gate, Readiness};
use mesh_common::tasks::Tasks;
use mesh_common::tls::{CertFiles, Limits, ReloadingServerConfig, ServerOptions, incoming};
use mesh_common::{admission, drain, kubeclient};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;

/// How long files must stay unchanged before they are read.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the configuration files are compared in case events are missing.
const COMPARE: Duration = Duration::from_secs(10);

/// An injector with its ports open.
#[derive(Debug)]
pub struct Bound {
    args: Serve,
    /// The webhook, TLS.
    pub webhook: TcpListener,
    /// The monitoring port.
    pub monitoring: TcpListener,
}

impl Bound {
    /// Binds the ports of the arguments, on all addresses.
    ///
    /// # Errors
    /// If a port is in use or may not be bound.
    pub async fn new(args: Serve) -> anyhow::Result<Self> {
        Ok(Self {
            webhook: bind(args.port).await?,
            monitoring: bind(args.monitoring_port).await?,
            args,
        })
    }

    /// Serves until `shutdown`.
    ///
    /// # Errors
    /// When the process cannot start, or one of its tasks fails.
    pub async fn run(self, shutdown: drain::Watch) -> anyhow::Result<()> {
        app::run("sidecar-injector", shutdown, |app| start(self, app)).await
    }
}

async fn bind(port: u16) -> anyhow::Result<TcpListener> {
    match TcpListener::bind(SocketAddr::from((Ipv6Addr::UNSPECIFIED, port))).await {
        Ok(listener) => Ok(listener),
        // The host has no IPv6.
        Err(_) => TcpListener::bind(SocketAddr::from((Ipv4Addr::UNSPECIFIED, port)))
            .await
            .with_context(|| format!("cannot listen on port {port}")),
    }
}

/// Runs the command line until `shutdown`.
///
/// # Errors
/// If a port cannot be bound, a socket fails, or a subcommand fails.
pub async fn run(args: Args, shutdown: drain::Watch) -> anyhow::Result<()> {
    match args.command {
        Some(Command::Probe(probe)) => commands::probe(&probe),
        Some(Command::Version(version)) => {
            println!("{}", version.render());
            Ok(())
        }
        Some(Command::Render(render)) => commands::render(&render),
        None => Bound::new(args.serve).await?.run(shutdown).await,
    }
}

async fn start(bound: Bound, app: App) -> anyhow::Result<()> {
    let Bound {
        args,
        webhook: listener,
        monitoring,
    } = bound;
    tracing::info!(
        webhook = %listener.local_addr()?,
        monitoring = %monitoring.local_addr()?,
        version = mesh_common::version::text(),
        "starting"
    );
    let webhook = Arc::new(Webhook::new(Metrics::new(&app.registry)));
    let configured = app.readiness.gate("configuration");
    let certified = app.readiness.gate("certificates");
    app.introspect(args.monitoring.clone(), axum::Router::new());
    keep_registration(&args, &app).await?;
    app.monitor(monitoring, axum::Router::new());
    let drain = app.drain();
    let paths = [&args.inject_config, &args.inject_values, &args.mesh_config];
    app.tasks.keep(
        "configuration",
        follow_configuration(
            args.clone(),
            Arc::clone(&webhook),
            configured,
            fswatch::watch(paths.map(Clone::clone).to_vec(), DEBOUNCE),
            drain.clone(),
        ),
    );
    app.tasks.once(
        "health file",
        write_health(args.clone(), app.readiness.clone(), drain.clone()),
    );
    let serve = serve_webhook(args, listener, webhook, certified, app.tasks.clone());
    app.tasks.keep("webhook", serve);
    Ok(())
}

/// Outside of a cluster and without a kubeconfig there is no registration to update.
async fn keep_registration(args: &Serve, app: &App) -> anyhow::Result<()> {
    if !args.reconcile_webhook_config {
        return Ok(());
    }
    let config = match kubeclient::config(&args.kube, "sidecar-injector").await {
        Ok(config) => config,
        Err(error @ kubeclient::Error::InCluster(_)) => {
            tracing::info!(%error, "no cluster: the caBundle of the webhook is not updated");
            return Ok(());
        }
        Err(error) => return Err(error.into()),
    };
    let settings = registration::Settings {
        name: args.webhook_config_name.clone(),
        suffix: args.webhook_name.clone(),
        revision: args.revision.clone(),
        ca_file: args.ca_cert_file.clone(),
    };
    let metrics = registration::Metrics::new(&app.registry);
    app.tasks.keep(
        "registration",
        registration::keep(
            kubeclient::client(config)?,
            settings,
            metrics,
            app.drain().clone(),
        ),
    );
    Ok(())
}

async fn serve_webhook(
    args: Serve,
    listener: TcpListener,
    webhook: Arc<Webhook>,
    certified: Gate,
    tasks: Tasks,
) -> anyhow::Result<()> {
    let shutdown = tasks.drain().clone();
    let files = CertFiles {
        cert_chain: args.tls_cert_file.clone(),
        key: args.tls_key_file.clone(),
        root: args.ca_cert_file.clone(),
    };
    let tls = tokio::select! {
        tls = ReloadingServerConfig::wait(&files, ServerOptions::https()) => tls,
        () = shutdown.signaled() => return Ok(()),
    };
    tasks.keep("server certificate files", tls.follow(shutdown.clone()));
    let mut status = tls.status();
    let expiry = webhook.metrics.cert_expiry.clone();
    // Ends with the certificates, which the server has.
    tasks.once("expiry metric", async move {
        loop {
            let end = status.borrow_and_update().not_after;
            let end = end.and_then(|end| end.duration_since(UNIX_EPOCH).ok());
            expiry.set(end.map_or(0.0, |end| end.as_secs_f64()));
            if status.changed().await.is_err() {
                return;
            }
        }
    });
    let connections = incoming(listener, tls, Limits::default())?;
    certified.open();
    admission::serve(connections, webhook::router(webhook), shutdown)
        .await
        .context("webhook failed")
}

/// Loads the configuration now and after every change of a file. If that fails, the previous
/// configuration stays in use.
async fn follow_configuration(
    args: Serve,
    webhook: Arc<Webhook>,
    configured: Gate,
    mut changes: Changes,
    shutdown: drain::Watch,
) -> Result<(), WatchDied> {
    let settings = Settings {
        native_sidecars: args.native_sidecars != NativeSidecars::False,
        revision: args.revision.clone(),
    };
    let paths = [&args.inject_config, &args.inject_values, &args.mesh_config];
    let mut compare = tokio::time::interval(COMPARE);
    let mut last = None;
    loop {
        tokio::select! {
            change = changes.next() => change?,
            _ = compare.tick() => {}
            () = shutdown.signaled() => return Ok(()),
        }
        let contents = paths.map(|path| std::fs::read(path).ok());
        if last.as_ref() == Some(&contents) {
            continue;
        }
        last = Some(contents);
        let existing = |path: &Path| path.exists().then(|| path.to_owned());
        let files = Files {
            injection: args.inject_config.clone(),
            values: existing(&args.inject_values),
            mesh: existing(&args.mesh_config),
        };
        let result = match Config::load(&files, settings.clone()) {
            Ok(config) => {
                tracing::info!(
                    digest = config.digest,
                    policy = ?config.policy,
                    templates = ?config.templates.keys().collect::<Vec<_>>(),
                    "configuration loaded"
                );
                for warning in &config.warnings {
                    tracing::warn!("{warning}");
                }
                webhook.config.store(Some(Arc::new(config)));
                configured.open();
                "success"
            }
            Err(error) => {
                let kept = webhook.config.load().is_some();
                tracing::error!(kept_the_old = kept, %error, "cannot load the configuration");
                "failure"
            }
        };
        webhook.metrics.reloads.with_label_values(&[result]).inc();
    }
}

/// Writes the health file while the process is ready, for probes that check its age.
async fn write_health(
    args: Serve,
    readiness: Readiness,
    shutdown: drain::Watch,
) -> anyhow::Result<()> {
    let file = &args.health_check_file;
    if file.is_empty() || args.health_check_interval.is_zero() {
        return Ok(());
    }
    let mut tick = tokio::time::interval(args.health_check_interval);
    loop {
        tokio::select! {
            _ = tick.tick() => {}
            () = shutdown.signaled() => return Ok(()),
        }
        if readiness.is_ready()
            && let Err(error) = tokio::fs::write(file, "ok").await
        {
            tracing::warn!(file, %error, "cannot write the health file");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use clap::Parser as _;
    use mesh_common::metrics::Registry;

    #[tokio::test]
    async fn configuration_that_is_no_longer_watched_is_an_error() {
        let args = Args::try_parse_from(["sidecar-injector"]).unwrap().serve;
        let webhook = Arc::new(Webhook::new(Metrics::new(&Registry::empty())));
        let gate = Readiness::new().gate("configuration");
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(sender);
        let (_trigger, shutdown) = drain::channel();
        let follow = follow_configuration(args, webhook, gate, receiver.into(), shutdown);
        let ended = tokio::time::timeout(Duration::from_secs(20), follow).await;
        assert_eq!(ended.unwrap(), Err(WatchDied));
    }
}
