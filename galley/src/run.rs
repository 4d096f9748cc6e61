//! `galley server`: wiring.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context, bail};
use mesh_common::admin::Admin;
use mesh_common::drain;
use mesh_common::kubeclient::{self, Client};
use mesh_common::mcp::source::{self, Options, SharedAuthorize, Snapshots};
use mesh_common::metrics::Registry;
use mesh_common::readiness::{Gate, Readiness};
use mesh_common::tls::{self, CertFiles, ClientAuth, ReloadingServerConfig, ServerOptions};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;
use tokio_stream::wrappers::{TcpListenerStream, UnixListenerStream};

use crate::access::{Access, Insecure};
use crate::args::ServerArgs;
use crate::metrics::Metrics;
use crate::source::{fs, kube};
use crate::state::{Engine, Task};
use crate::{debug, env, mesh, probe};

/// How long to wait for certificates at the start.
const CERTIFICATE_PATIENCE: Duration = Duration::from_secs(60);
/// Updates of the source on their way to the state. Each holds at most a batch of files.
const UPDATES: usize = 4;
/// A connection that is too old is closed this long after its last stream was to end.
const AGE_GRACE: Duration = Duration::from_secs(10);
/// How often the expiry of the certificate is looked at.
const EXPIRY_CHECK: Duration = Duration::from_secs(10);

/// A server with its ports open.
pub struct Server {
    args: ServerArgs,
    listener: Listener,
    monitoring: Option<TcpListener>,
    /// Of the API server that configuration is read from; files are without.
    client: Option<Client>,
    timing: kube::Timing,
}

impl std::fmt::Debug for Server {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Server")
            .field("args", &self.args)
            .field("listener", &self.listener)
            .field("monitoring", &self.monitoring)
            .finish_non_exhaustive()
    }
}

#[derive(Debug)]
enum Listener {
    Tcp(TcpListener),
    Unix(UnixListener, PathBuf),
}

/// Runs `galley server` until the process drains.
pub async fn run(args: ServerArgs, drain: drain::Watch) -> anyhow::Result<()> {
    Server::bind(args).await?.run(drain).await
}

impl Server {
    /// Checks the arguments and opens the ports.
    pub async fn bind(args: ServerArgs) -> anyhow::Result<Self> {
        if args.enable_validation {
            bail!("the admission webhook is not part of this version: --enable-validation=false");
        }
        if !args.enable_server {
            bail!("nothing to do: must be running under at least one mode, server or validation");
        }
        let client = if args.config_path.as_os_str().is_empty() {
            let config = kubeclient::config(&args.kube, "galley").await;
            let client = config.and_then(|mut config| {
                // The source has delays of its own between attempts.
                config.default_retry = false;
                kubeclient::client(config)
            });
            Some(
                client
                    .context("read configuration from Kubernetes, as no --configPath is given")?,
            )
        } else {
            None
        };
        let address = args.server_address.as_str();
        let listener = if let Some(path) = address.strip_prefix("unix://") {
            if !args.insecure {
                bail!("--server-address={address}: a Unix socket is served with --insecure only");
            }
            let path = PathBuf::from(path);
            // A socket that nobody serves any more would be in the way.
            if let Err(error) = std::fs::remove_file(&path)
                && error.kind() != std::io::ErrorKind::NotFound
            {
                bail!("remove {}: {error}", path.display());
            }
            let listener = UnixListener::bind(&path);
            Listener::Unix(
                listener.with_context(|| format!("listen on {address}"))?,
                path,
            )
        } else {
            let address = address.strip_prefix("tcp://").unwrap_or(address);
            let listener = TcpListener::bind(address).await;
            Listener::Tcp(listener.with_context(|| format!("listen on {address}"))?)
        };
        let monitoring = match args.monitoring_port {
            0 => None,
            port => {
                let listener = TcpListener::bind(("0.0.0.0", port)).await;
                Some(listener.with_context(|| format!("listen on monitoring port {port}"))?)
            }
        };
        Ok(Self {
            args,
            listener,
            monitoring,
            client,
            timing: kube::Timing::default(),
        })
    }

    /// Follows Kubernetes with other times.
    #[must_use]
    pub fn with_timing(mut self, timing: kube::Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Serves the monitoring pages here instead of on the port of the arguments.
    #[must_use]
    pub fn with_monitoring(mut self, listener: TcpListener) -> Self {
        self.monitoring = Some(listener);
        self
    }

    /// Where configuration is served; `None` on a Unix socket.
    pub fn address(&self) -> Option<SocketAddr> {
        match &self.listener {
            Listener::Tcp(listener) => listener.local_addr().ok(),
            Listener::Unix(..) => None,
        }
    }

    /// Runs until the process drains, or something fails that it cannot do without.
    pub async fn run(self, drain: drain::Watch) -> anyhow::Result<()> {
        let Self {
            args,
            listener,
            monitoring,
            client,
            timing,
        } = self;
        tracing::info!(version = mesh_common::version::text(), "galley");
        tracing::info!(config = ?args, "effective configuration");
        let registry = Registry::new("galley");
        let readiness = Readiness::new();
        let snapshot_gate = readiness.gate("snapshot");
        let server_gate = readiness.gate("server");
        let mut tasks = JoinSet::new();

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
        tasks.spawn(follow);

        let engine = Engine::new(settings, epoch());
        let collections = engine.collections();
        let (updates_tx, updates) = mpsc::channel(UPDATES);
        let (snapshots_tx, snapshots) = watch::channel(None);
        let metrics = Metrics::register(&registry, client.is_some());
        let (task, queries) = Task::new(engine, updates, settings_rx, snapshots_tx, metrics);
        tasks.spawn(task.run(drain.clone()));
        match client {
            Some(client) => {
                let options = kube::Options {
                    excluded: args.excluded_resource_kinds.iter().cloned().collect(),
                    timing,
                };
                let metrics = kube::Metrics::register(&registry);
                tasks.spawn(kube::run(
                    client,
                    options,
                    metrics,
                    updates_tx,
                    drain.clone(),
                ));
            }
            None => {
                let root = args.config_path.clone();
                tasks.spawn(fs::run(root, updates_tx, drain.clone()));
            }
        }
        tasks.spawn(open_after_first(snapshots.clone(), snapshot_gate));

        let mut options = env::over(Options::default());
        options.max_request_bytes = args.max_received_message_size;
        options.max_age = args.max_connection_age;
        let authorize: SharedAuthorize = if args.insecure {
            Arc::new(Insecure)
        } else {
            let access = Access::load(&args.access_list_file)?;
            tasks.spawn(access.clone().follow(drain.clone()));
            Arc::new(access)
        };
        let mcp_metrics = source::Metrics::register(&registry, "galley", collections);
        let mcp = source::Server::new(
            snapshots.clone(),
            authorize,
            options,
            mcp_metrics,
            drain.clone(),
        );
        if let Some(listener) = monitoring {
            let pages = debug::pages(queries, snapshots, mcp.connections());
            let admin = Admin::new(registry.clone(), readiness.clone()).merge(pages);
            let serve = admin.serve(listener, drain.clone());
            tasks.spawn(async move {
                if let Err(error) = serve.await {
                    tracing::error!(error = %error, "the monitoring port has failed");
                }
            });
        }
        tasks.spawn(probe::keep(
            args.liveness_probe_path.clone(),
            args.liveness_probe_interval,
            None,
            drain.clone(),
        ));
        tasks.spawn(probe::keep(
            args.readiness_probe_path.clone(),
            args.readiness_probe_interval,
            Some(readiness.clone()),
            drain.clone(),
        ));
        let served = serve(
            &args,
            listener,
            mcp,
            &registry,
            server_gate,
            &mut tasks,
            &drain,
        )
        .await;
        // On a failure nobody signals the drain; the tasks then end with the set.
        if served.is_ok() {
            while tasks.join_next().await.is_some() {}
        }
        served
    }
}

async fn serve(
    args: &ServerArgs,
    listener: Listener,
    mcp: source::Server,
    registry: &Registry,
    gate: Gate,
    tasks: &mut JoinSet<()>,
    drain: &drain::Watch,
) -> anyhow::Result<()> {
    let router = tonic::transport::Server::builder()
        .http2_keepalive_interval(Some(args.keepalive_interval))
        .http2_keepalive_timeout(Some(args.keepalive_timeout))
        .max_concurrent_streams(args.max_concurrent_streams)
        .max_connection_age(args.max_connection_age.saturating_add(AGE_GRACE))
        .max_connection_age_grace(AGE_GRACE)
        .add_service(mcp.service());
    let end = drain.signaled();
    match listener {
        Listener::Unix(listener, path) => {
            gate.open();
            let served = router
                .serve_with_incoming_shutdown(UnixListenerStream::new(listener), end)
                .await;
            if let Err(error) = std::fs::remove_file(&path) {
                tracing::warn!(socket = %path.display(), error = %error, "not removed");
            }
            served.context("serve configuration")
        }
        Listener::Tcp(listener) if args.insecure => {
            gate.open();
            let incoming = TcpListenerStream::new(listener);
            router
                .serve_with_incoming_shutdown(incoming, end)
                .await
                .context("serve configuration")
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
                config = ReloadingServerConfig::wait(&files, options, CERTIFICATE_PATIENCE) => {
                    config.context("certificates for serving configuration")?
                }
            };
            config.follow(drain);
            gate.open();
            tasks.spawn(watch_expiry(
                config.clone(),
                gate,
                registry.clone(),
                drain.clone(),
            ));
            let incoming = tls::incoming(listener, config, tls::Limits::default())?;
            router
                .serve_with_incoming_shutdown(incoming, end)
                .await
                .context("serve configuration")
        }
    }
}

/// Ready only while the certificate is good; its expiry and its reloads as metrics.
async fn watch_expiry(
    config: ReloadingServerConfig,
    gate: Gate,
    registry: Registry,
    drain: drain::Watch,
) {
    let expiry = registry.int_gauge(
        "galley_server_cert_expiry_timestamp_seconds",
        "When the certificate of the configuration server ends.",
    );
    let failures = registry.int_gauge(
        "galley_server_cert_load_failures",
        "Failed attempts to read the certificate, its key or the trust anchors.",
    );
    let mut status = config.status();
    loop {
        let now = status.borrow_and_update().clone();
        let seconds = |time: SystemTime| {
            let since = time.duration_since(UNIX_EPOCH).unwrap_or_default();
            i64::try_from(since.as_secs()).unwrap_or(i64::MAX)
        };
        failures.set(i64::try_from(now.failures).unwrap_or(i64::MAX));
        if let Some(end) = now.not_after {
            expiry.set(seconds(end));
            if end <= SystemTime::now() {
                gate.close();
            } else {
                gate.open();
            }
        }
        tokio::select! {
            () = drain.signaled() => return,
            changed = status.changed() => if changed.is_err() { return },
            () = tokio::time::sleep(EXPIRY_CHECK) => {}
        }
    }
}

async fn open_after_first(mut snapshots: Snapshots, gate: Gate) {
    if snapshots.wait_for(Option::is_some).await.is_ok() {
        gate.open();
    }
}

/// Unlike that of any other run or replica: the time of the start in base 36.
fn epoch() -> String {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut rest = time.as_millis();
    let mut digits = Vec::new();
    while rest > 0 {
        let digit = u32::try_from(rest % 36).unwrap_or_default();
        digits.extend(char::from_digit(digit, 36));
        rest /= 36;
    }
    digits.iter().rev().collect()
}
