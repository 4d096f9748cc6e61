//! Configuration from its source to the sinks.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use mesh_common::app::App;
use mesh_common::drain;
use mesh_common::kubeclient::Client;
use mesh_common::mcp::{
    self,
    source::{self, Options, SharedAuthorize, Snapshots},
};
use mesh_common::metrics::Registry;
use mesh_common::readiness::Gate;
use mesh_common::tasks::Tasks;
use mesh_common::tls::{self, CertFiles, ClientAuth, ReloadingServerConfig, ServerOptions};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};

use super::epoch::epoch;
use super::listen::Listener;
use super::sink;
use super::statuses;
use crate::access::{Access, Insecure};
use crate::args::ServerArgs;
use crate::metrics::Metrics;
use crate::source::{fs, kube};
use crate::state::Task;
use crate::status::Reception;
use crate::{certificate, debug, env, mesh};
use galley_engine::engine::Engine;

/// Updates of the source on their way to the state. Each holds at most a batch of files.
const UPDATES: usize = 4;
/// A connection that is too old is closed this long after its last stream was to end.
const AGE_GRACE: Duration = Duration::from_secs(10);

/// Everything but the port: the tasks run, nobody is served yet.
pub(super) struct Configuration {
    mcp: source::Server,
    /// Where pilots report, if statuses are kept.
    reports: Option<mcp::sink::Server<Reception>>,
    ready: Gate,
    /// Pages that show it.
    pub(super) pages: Router,
}

impl Configuration {
    /// Starts the tasks. Without a client, configuration is in files.
    pub(super) fn start(
        args: &ServerArgs,
        client: Option<Client>,
        (timing, statuses): (kube::Timing, statuses::Timing),
        app: &App,
    ) -> anyhow::Result<Self> {
        let (registry, readiness) = (&app.registry, &app.readiness);
        let (tasks, drain) = (&app.tasks, app.drain());
        let settings = mesh::load(&args.mesh_config_file, &args.domain)
            .map_err(|error| anyhow::anyhow!(error))
            .with_context(|| format!("mesh configuration {}", args.mesh_config_file.display()))?;
        let (settings_tx, settings_rx) = watch::channel(settings.clone());
        let follow = mesh::follow(
            args.mesh_config_file.clone(),
            args.domain.clone(),
            settings_tx,
            drain.clone(),
        );
        tasks.keep("mesh configuration", follow);

        let engine = Engine::new(settings, epoch());
        let collections = engine.collections();
        let (updates_tx, updates) = mpsc::channel(UPDATES);
        let (snapshots_tx, snapshots) = watch::channel(None);
        let metrics = Metrics::register(registry, client.is_some());
        let (task, queries) = Task::new(engine, updates, settings_rx, snapshots_tx, metrics);
        let parts = statuses::Parts {
            args,
            timing: statuses,
            client: client.clone(),
            snapshots: snapshots.clone(),
            registry,
        };
        let started = statuses::start(parts, task, tasks);
        tasks.keep("state", started.task.run(drain.clone()));
        if let Some(client) = client {
            let options = kube::Options {
                excluded: args.excluded_resource_kinds.iter().cloned().collect(),
                timing,
                statuses: args.status.enable_status,
            };
            let metrics = kube::Metrics::register(registry);
            let source = kube::run(client, options, metrics, updates_tx, drain.clone());
            tasks.keep("source", source);
        } else {
            let root = args.config_path.clone();
            tasks.keep("source", fs::run(root, updates_tx, drain.clone()));
        }
        let published = open_after_first(snapshots.clone(), readiness.gate("snapshot"));
        tasks.once("first snapshot", published);

        let mut options = env::over(Options::default());
        options.max_request_bytes = args.max_received_message_size;
        options.max_age = args.max_connection_age;
        let authorize: SharedAuthorize = if args.insecure {
            Arc::new(Insecure)
        } else {
            let access = Access::load(&args.access_list_file)?;
            tasks.keep("access list", access.clone().follow(drain.clone()));
            Arc::new(access)
        };
        let metrics = source::Metrics::register(registry, "galley", collections);
        let mcp = source::Server::new(
            snapshots.clone(),
            authorize,
            options,
            metrics,
            drain.clone(),
        );
        if let Some(client) = sink::client(args, &mcp, registry)? {
            tasks.keep("sink", client.run(drain.clone()));
        }
        let reports = started.reception.map(|reception| {
            let admission = mcp.admission();
            statuses::sink(reception, args, admission, registry, drain)
        });
        Ok(Self {
            pages: debug::pages(queries, snapshots, mcp.connections()).merge(started.page),
            ready: readiness.gate("server"),
            mcp,
            reports,
        })
    }

    /// Serves sinks until the process drains.
    pub(super) async fn serve(
        self,
        args: ServerArgs,
        listener: Listener,
        registry: Registry,
        tasks: Tasks,
    ) -> anyhow::Result<()> {
        let drain = tasks.drain();
        let mut routes = self.mcp.routes();
        if let Some(reports) = self.reports {
            routes = routes.add_service(reports.service());
        }
        let router = tonic::transport::Server::builder()
            .http2_keepalive_interval(Some(args.keepalive_interval))
            .http2_keepalive_timeout(Some(args.keepalive_timeout))
            .max_concurrent_streams(args.max_concurrent_streams)
            .max_connection_age(args.max_connection_age.saturating_add(AGE_GRACE))
            .max_connection_age_grace(AGE_GRACE)
            .add_routes(routes);
        let end = drain.signaled();
        let served = match listener {
            Listener::Unix(listener, path) => {
                self.ready.open();
                let incoming = UnixListenerStream::new(listener);
                let served = router.serve_with_incoming_shutdown(incoming, end).await;
                if let Err(error) = std::fs::remove_file(&path) {
                    tracing::warn!(socket = %path.display(), error = %error, "not removed");
                }
                served
            }
            Listener::Tcp(listener) if args.insecure => {
                self.ready.open();
                let incoming = TcpListenerStream::new(listener);
                router.serve_with_incoming_shutdown(incoming, end).await
            }
            Listener::Tcp(listener) => {
                let files = CertFiles {
                    cert_chain: args.tls_cert_file.clone(),
                    key: args.tls_key_file.clone(),
                    root: args.ca_cert_file.clone(),
                };
                let options = ServerOptions::grpc(ClientAuth::Required);
                let config = tokio::select! {
                    () = drain.signaled() => return Ok(()),
                    config = ReloadingServerConfig::wait(&files, options) => config,
                };
                tasks.keep("server certificate files", config.follow(drain.clone()));
                self.ready.open();
                let watch = watch_certificate(config.clone(), self.ready, &registry, drain.clone());
                tasks.keep("server certificate", watch);
                let incoming = tls::incoming(listener, config, tls::Limits::default())?;
                router.serve_with_incoming_shutdown(incoming, end).await
            }
        };
        served.context("serve configuration")
    }
}

fn watch_certificate(
    config: ReloadingServerConfig,
    ready: Gate,
    registry: &Registry,
    drain: drain::Watch,
) -> impl Future<Output = ()> + use<> {
    let expiry = registry.int_gauge(
        "galley_server_cert_expiry_timestamp_seconds",
        "When the certificate of the configuration server ends.",
    );
    let failures = registry.int_gauge(
        "galley_server_cert_load_failures",
        "Failed attempts to read the certificate, its key or the trust anchors.",
    );
    certificate::watch(config, ready, drain, move |end, status| {
        failures.set(i64::try_from(status.failures).unwrap_or(i64::MAX));
        expiry.set(end.unwrap_or_default());
    })
}

async fn open_after_first(mut snapshots: Snapshots, gate: Gate) {
    if snapshots.wait_for(Option::is_some).await.is_ok() {
        gate.open();
    }
}
