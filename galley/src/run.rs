//! `galley server`: wiring.

mod configuration;
mod epoch;
mod listen;
mod sink;
mod statuses;

use std::net::SocketAddr;

use anyhow::{Context as _, bail};
use axum::Router;
use futures::future::BoxFuture;
use mesh_common::app::{self, App};
use mesh_common::drain;
use mesh_common::fswatch::WatchDied;
use mesh_common::kubeclient::{self, Client};
use mesh_common::metrics::Registry;
use mesh_common::tls::CertFiles;
use tokio::net::TcpListener;

use configuration::Configuration;
use listen::Listener;
pub use statuses::Timing as StatusTiming;

use crate::args::ServerArgs;
use crate::probe;
use crate::source::kube;
use crate::webhook::{self, registration};

/// A server with its ports open.
pub struct Server {
    args: ServerArgs,
    /// Where configuration is served, if it is.
    listener: Option<Listener>,
    /// Where the API server asks, if it does.
    webhook: Option<TcpListener>,
    monitoring: Option<TcpListener>,
    /// Of the API server that configuration is read from and the webhook is registered at.
    client: Option<Client>,
    timing: kube::Timing,
    status_timing: StatusTiming,
    /// A task beside its own.
    extra: Option<BoxFuture<'static, anyhow::Result<()>>>,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("args", &self.args)
            .field("listener", &self.listener)
            .field("webhook", &self.webhook)
            .field("monitoring", &self.monitoring)
            .finish_non_exhaustive()
    }
}

/// Runs `galley server` until the process drains.
pub async fn run(args: ServerArgs, drain: drain::Watch) -> anyhow::Result<()> {
    Server::bind(args).await?.run(drain).await
}

impl Server {
    /// Checks the arguments and opens the ports.
    pub async fn bind(args: ServerArgs) -> anyhow::Result<Self> {
        let validation = &args.validation;
        if !args.enable_server && !validation.enable_validation {
            bail!("nothing to do: must be running under at least one mode: server or validation");
        }
        sink::check(&args)?;
        let client = client(&args).await?;
        let listener = if args.enable_server {
            Some(Listener::bind(&args.server_address, args.insecure).await?)
        } else {
            None
        };
        let webhook = if validation.enable_validation {
            Some(listen::everywhere(validation.validation_port, "validation").await?)
        } else {
            None
        };
        let monitoring = match args.monitoring_port {
            0 => None,
            port => Some(listen::everywhere(port, "monitoring").await?),
        };
        Ok(Self {
            args,
            listener,
            webhook,
            monitoring,
            client,
            timing: kube::Timing::default(),
            status_timing: StatusTiming::default(),
            extra: None,
        })
    }

    /// Follows Kubernetes with other times.
    #[must_use]
    pub fn with_timing(mut self, timing: kube::Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Keeps statuses with other times.
    #[must_use]
    pub fn with_status_timing(mut self, timing: StatusTiming) -> Self {
        self.status_timing = timing;
        self
    }

    /// Serves the monitoring pages here instead of on the port of the arguments.
    #[must_use]
    pub fn with_monitoring(mut self, listener: TcpListener) -> Self {
        self.monitoring = Some(listener);
        self
    }

    /// Runs another supervised task, `extra`, which must not end before the process.
    #[must_use]
    pub fn with_task(mut self, task: BoxFuture<'static, anyhow::Result<()>>) -> Self {
        self.extra = Some(task);
        self
    }

    /// Where configuration is served; `None` on a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        self.listener.as_ref().and_then(Listener::address)
    }

    /// Where the webhook is served.
    pub fn webhook_address(&self) -> Option<SocketAddr> {
        let listener = self.webhook.as_ref();
        listener.and_then(|listener| listener.local_addr().ok())
    }

    /// Runs until the process drains, or something fails that it cannot do without.
    pub async fn run(self, drain: drain::Watch) -> anyhow::Result<()> {
        app::run("galley", drain, |app| async move { self.start(&app) }).await
    }

    fn start(self, app: &App) -> anyhow::Result<()> {
        let Self {
            args,
            listener,
            webhook,
            monitoring,
            client,
            timing,
            status_timing,
            extra,
        } = self;
        tracing::info!(version = mesh_common::version::text(), "galley");
        tracing::info!(config = ?args, "effective configuration");
        let (registry, readiness) = (&app.registry, &app.readiness);
        let (tasks, drain) = (&app.tasks, app.drain());
        if let Some(extra) = extra {
            tasks.keep("extra", extra);
        }

        let mut pages = Router::new();
        if let Some(listener) = listener {
            let source = client.clone().filter(|_| !args.reads_files());
            let configuration = Configuration::start(&args, source, (timing, status_timing), app)?;
            pages = configuration.pages.clone();
            let serve =
                configuration.serve(args.clone(), listener, registry.clone(), tasks.clone());
            tasks.keep("configuration server", serve);
        }
        if let Some(listener) = webhook {
            if let Some(client) = client {
                let register = register(&args, client, registry, drain.clone());
                tasks.keep("registration", register);
            } else {
                tracing::info!(
                    target: "validation",
                    "there is no API server that the webhook could be registered at"
                );
            }
            let files = CertFiles {
                cert_chain: args.tls_cert_file.clone(),
                key: args.tls_key_file.clone(),
                root: args.ca_cert_file.clone(),
            };
            let metrics = webhook::Metrics::register(registry);
            let ready = readiness.gate("webhook");
            let admit = webhook::server::serve(listener, files, metrics, ready, drain.clone());
            tasks.keep("webhook", admit);
        }
        app.introspect(args.introspection.clone(), pages.clone());
        if let Some(listener) = monitoring {
            app.monitor(listener, pages);
        }
        let liveness = probe::keep(
            args.liveness_probe_path,
            args.liveness_probe_interval,
            None,
            drain.clone(),
        );
        tasks.once("liveness file", liveness);
        let readiness = probe::keep(
            args.readiness_probe_path,
            args.readiness_probe_interval,
            Some(readiness.clone()),
            drain.clone(),
        );
        tasks.once("readiness file", readiness);
        Ok(())
    }
}

/// The client of the API server. It may be missing only where files are read.
async fn client(args: &ServerArgs) -> anyhow::Result<Option<Client>> {
    if args.reads_files() && args.kube.kubeconfig.is_empty() {
        return Ok(None);
    }
    let config = kubeclient::config(&args.kube, "galley").await;
    let client = config.and_then(|mut config| {
        // Whoever asks has delays of its own between attempts.
        config.default_retry = false;
        kubeclient::client(config)
    });
    let client = client.context("the API server, as no --configPath is given")?;
    Ok(Some(client))
}

fn register(
    args: &ServerArgs,
    client: Client,
    registry: &Registry,
    drain: drain::Watch,
) -> impl Future<Output = Result<(), WatchDied>> + use<> {
    let validation = &args.validation;
    let file = &validation.webhook_config_file;
    let settings = registration::Settings {
        name: validation.webhook_name.clone(),
        namespace: validation.deployment_namespace.clone(),
        service: validation.service_name.clone(),
        ca_file: args.ca_cert_file.clone(),
        file: (!file.as_os_str().is_empty()).then(|| file.clone()),
        managed_policy: validation.managed_policy,
    };
    let metrics = registration::Metrics::register(registry);
    registration::keep(client, settings, metrics, drain)
}
