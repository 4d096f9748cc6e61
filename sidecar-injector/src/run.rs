//! The process: reads configuration and certificates, serves, and follows changes.

mod commands;

use crate::args::{Args, Command, NativeSidecars, Serve};
use crate::config::{Config, Files, Settings};
use crate::metrics::Metrics;
use crate::registration;
use crate::webhook::{self, Webhook};
use anyhow::Context as _;
use mesh_common::admin::Admin;
use mesh_common::metrics::Registry;
use mesh_common::readiness::{Gate, Readiness};
use mesh_common::tls::{CertFiles, Limits, ReloadingServerConfig, ServerOptions, incoming};
use mesh_common::{admission, ctrlz, drain, fswatch, kubeclient};
use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};
use tokio::net::TcpListener;

/// How long files must stay unchanged before they are read.
const DEBOUNCE: Duration = Duration::from_millis(100);
/// How often the configuration files are compared in case events are missing.
const COMPARE: Duration = Duration::from_secs(10);

/// Sockets of the process, bound before it serves.
#[derive(Debug)]
pub struct Bound {
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
    pub async fn new(args: &Serve) -> anyhow::Result<Self> {
        Ok(Self {
            webhook: bind(args.port).await?,
            monitoring: bind(args.monitoring_port).await?,
        })
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
        None => {
            let bound = Bound::new(&args.serve).await?;
            serve(args.serve, bound, shutdown).await
        }
    }
}

/// Serves on sockets that are bound already, until `shutdown`.
///
/// # Errors
/// If a socket fails.
pub async fn serve(args: Serve, bound: Bound, shutdown: drain::Watch) -> anyhow::Result<()> {
    tracing::info!(
        webhook = %bound.webhook.local_addr()?,
        monitoring = %bound.monitoring.local_addr()?,
        version = mesh_common::version::text(),
        "starting"
    );
    let registry = Registry::new("sidecar-injector");
    let readiness = Readiness::new();
    let webhook = Arc::new(Webhook::new(Metrics::new(&registry)));
    let configured = readiness.gate("configuration");
    let certified = readiness.gate("certificates");
    tokio::spawn(ctrlz::serve(
        args.monitoring.clone(),
        registry.clone(),
        axum::Router::new(),
        shutdown.clone(),
    ));
    keep_registration(&args, &registry, &shutdown).await?;
    let admin = Admin::new(registry, readiness.clone());

    let follow = follow_configuration(
        args.clone(),
        Arc::clone(&webhook),
        configured,
        shutdown.clone(),
    );
    let health = write_health(&args, readiness, shutdown.clone());
    let answer = serve_webhook(&args, bound.webhook, webhook, certified, shutdown.clone());
    tokio::try_join!(follow, health, answer, async {
        admin
            .serve(bound.monitoring, shutdown)
            .await
            .context("monitoring port failed")
    },)?;
    Ok(())
}

/// Outside of a cluster and without a kubeconfig there is no registration to update.
async fn keep_registration(
    args: &Serve,
    registry: &Registry,
    shutdown: &drain::Watch,
) -> anyhow::Result<()> {
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
    let metrics = registration::Metrics::new(registry);
    tokio::spawn(registration::keep(
        kubeclient::client(config)?,
        settings,
        metrics,
        shutdown.clone(),
    ));
    Ok(())
}

async fn serve_webhook(
    args: &Serve,
    listener: TcpListener,
    webhook: Arc<Webhook>,
    certified: Gate,
    shutdown: drain::Watch,
) -> anyhow::Result<()> {
    let files = CertFiles {
        cert_chain: args.tls_cert_file.clone(),
        key: args.tls_key_file.clone(),
        root: args.ca_cert_file.clone(),
    };
    let tls = tokio::select! {
        tls = ReloadingServerConfig::wait(&files, ServerOptions::https()) => tls,
        () = shutdown.signaled() => return Ok(()),
    };
    tls.follow(&shutdown);
    let mut status = tls.status();
    let expiry = webhook.metrics.cert_expiry.clone();
    tokio::spawn(async move {
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
    shutdown: drain::Watch,
) -> anyhow::Result<()> {
    let settings = Settings {
        native_sidecars: args.native_sidecars != NativeSidecars::False,
        revision: args.revision.clone(),
    };
    let paths = [&args.inject_config, &args.inject_values, &args.mesh_config];
    let mut changes = fswatch::watch(paths.into_iter().cloned().collect(), DEBOUNCE);
    let mut compare = tokio::time::interval(COMPARE);
    let mut last = None;
    loop {
        tokio::select! {
            Some(()) = changes.recv() => {}
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
    args: &Serve,
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
