//! Wires the parts together.

mod reports;
mod secrets;

use std::path::PathBuf;

use anyhow::Context as _;
use mesh_common::{
    admin::loopback_only,
    app::{self, App},
    drain, mcp,
    tls::{self, CertFiles, ClientAuth, ReloadingServerConfig, ServerOptions},
};
use tokio::{net::TcpListener, sync::oneshot};
use tonic::transport::{Server, server::TcpIncoming};

use crate::{
    args::{Args, listen_address},
    config, debug,
    metrics::Metrics,
    world::{self, Command, pace::Pace},
    xds::{connection::Context, registry, server::Ads},
};

/// Bound addresses; for tests that use port 0.
#[derive(Clone, Debug, Default)]
pub struct Bound {
    pub http: Option<std::net::SocketAddr>,
    pub monitoring: Option<std::net::SocketAddr>,
    pub grpc: Option<std::net::SocketAddr>,
    pub secure_grpc: Option<std::net::SocketAddr>,
}

/// Runs the discovery server until the process drains.
///
/// # Errors
/// If it cannot start; the error says at which stage.
pub async fn run(args: Args, drain: drain::Watch) -> anyhow::Result<()> {
    let (bound, _addresses) = oneshot::channel();
    run_reporting(args, drain, bound).await
}

/// Like [`run`], and reports the bound addresses.
///
/// # Errors
/// If it cannot start; the error says at which stage.
pub async fn run_reporting(
    args: Args,
    drain: drain::Watch,
    bound: oneshot::Sender<Bound>,
) -> anyhow::Result<()> {
    app::run("pilot", drain, |app| start(args, app, bound)).await
}

async fn start(args: Args, app: App, bound: oneshot::Sender<Bound>) -> anyhow::Result<()> {
    let drain = app.drain();
    let metrics = Metrics::register(&app.registry);
    let config_gate = app.readiness.gate("configuration");
    check_registries(&args.registries)?;

    let defaults = config::mesh::Defaults {
        domain: args.domain.clone(),
        trust_domain: args.trust_domain.clone(),
    };
    let mesh = config::mesh::read(&args.mesh_config, &defaults).context("mesh config")?;
    let pace = Pace {
        after: args.debounce_after,
        max: args.debounce_max,
        ..Pace::default()
    };
    let world = world::Handle::start(mesh, pace, metrics.clone())?;
    let streams = registry::Registry::default();

    let secrets = config::secrets::cluster::Status::default();
    let mut bound_at = Bound::default();
    let pages = loopback_only(debug::router(debug::State {
        world: world.clone(),
        streams: streams.clone(),
        pilot: format!("{}.{}", args.pod_name, args.namespace).into(),
        secrets: secrets.clone(),
    }));
    app.introspect(args.introspection.clone(), axum::Router::new());
    for (flag, slot) in [
        (&args.http, &mut bound_at.http),
        (&args.monitoring, &mut bound_at.monitoring),
    ] {
        if let Some(address) = listen_address(flag) {
            let listener = listen(&address).await?;
            *slot = Some(listener.local_addr()?);
            app.monitor(listener, pages.clone());
        }
    }

    let follow = config::mesh::follow(
        args.mesh_config.clone(),
        defaults,
        world.clone(),
        drain.clone(),
    );
    app.tasks.keep("mesh configuration", follow);
    secrets::start(&args, &app, &world, secrets).await?;
    start_sources(&args, &app, &world).await?;
    world.send(Command::Synced).await?;
    // By the time this returns, the snapshot with all of that is published.
    world.inspect(|_| ()).await?;

    reports::start(&args, &app, &world, &streams)?;

    let writer = world.clone();
    app.tasks.keep_until_drain("writer", async move {
        writer.ended().await;
        Err::<(), _>(anyhow::anyhow!("the writer thread ended"))
    });
    let context = Context {
        world,
        registry: streams,
        metrics,
        drain: drain.clone(),
        identity_check: args.identity_check,
    };
    let per_second = match args.streams_per_second {
        0 => 200 * u32::try_from(std::thread::available_parallelism()?.get()).unwrap_or(1),
        limit => limit,
    };
    let service = |authenticated| Ads::new(context.clone(), authenticated, per_second);
    if let Some(address) = listen_address(&args.grpc) {
        let listener = listen(&address).await?;
        bound_at.grpc = Some(listener.local_addr()?);
        let server = server(&args).add_service(service(false));
        let signaled = drain.signaled();
        app.tasks.keep("discovery", async move {
            let incoming = TcpIncoming::from(listener).with_nodelay(Some(true));
            server
                .serve_with_incoming_shutdown(incoming, signaled)
                .await
        });
    }
    if let Some(address) = listen_address(&args.secure_grpc) {
        let listener = listen(&address).await?;
        bound_at.secure_grpc = Some(listener.local_addr()?);
        let files = CertFiles {
            cert_chain: args.cert.clone(),
            key: args.key.clone(),
            root: args.ca_cert.clone(),
        };
        let options = ServerOptions::grpc(ClientAuth::Optional);
        let config = tokio::select! {
            () = drain.signaled() => return Ok(()),
            config = ReloadingServerConfig::wait(&files, options) => config,
        };
        app.tasks
            .keep("server certificate files", config.follow(drain.clone()));
        let incoming = tls::incoming(listener, config, tls::Limits::default())?;
        let server = server(&args).add_service(service(true));
        let signaled = drain.signaled();
        app.tasks.keep("secure discovery", async move {
            server
                .serve_with_incoming_shutdown(incoming, signaled)
                .await
        });
    }
    config_gate.open();
    tracing::info!(addresses = ?bound_at, "serving discovery");
    // Only tests receive this.
    let _nobody = bound.send(bound_at);
    Ok(())
}

fn check_registries(registries: &[String]) -> anyhow::Result<()> {
    for name in registries.iter().filter(|name| !name.is_empty()) {
        anyhow::ensure!(
            name == "MCP",
            "registry {name:?} is not supported; services come from the configuration \
             (--mcpServerAddrs or --configDir), so leave --registries empty or set it to MCP"
        );
    }
    Ok(())
}

async fn listen(address: &str) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address)
        .await
        .with_context(|| format!("listening on {address}"))
}

fn server(args: &Args) -> Server {
    let server = Server::builder()
        .http2_keepalive_interval(Some(args.keepalive.interval))
        .http2_keepalive_timeout(Some(args.keepalive.timeout))
        .tcp_nodelay(true);
    match args.keepalive.connection_age() {
        Some(age) => server.max_connection_age(age),
        None => server,
    }
}

/// Starts every source and waits until each has delivered its current content.
async fn start_sources(args: &Args, app: &App, world: &world::Handle) -> anyhow::Result<()> {
    let drain = app.drain();
    let mut waiting = Vec::new();
    if let Some(dir) = args.secrets_dir.clone() {
        let (first_tx, first) = oneshot::channel();
        let follow =
            config::secrets::directory::follow(dir, world.clone(), drain.clone(), first_tx);
        app.tasks.keep("secrets directory", follow);
        waiting.push(("secrets".to_owned(), first));
    }
    if let Some(dir) = args.config_dir.clone() {
        let first = start_dir(dir, world, app);
        waiting.push(("configuration directory".to_owned(), first));
    }
    let mut mcp_handles = Vec::new();
    let metrics = mcp::sink::Metrics::register(&app.registry, "pilot");
    for server in args.mcp_servers.iter().filter(|server| !server.is_empty()) {
        let server = config::mcp::Server::parse(server)?;
        let files = config::mcp::Files {
            cert: args.cert.clone(),
            key: args.key.clone(),
            root: args.ca_cert.clone(),
        };
        let node_id = format!("{}.{}", args.pod_name, args.namespace);
        let (client, handle) = config::mcp::client(
            &server,
            files,
            node_id,
            args.mcp_max_message,
            metrics.clone(),
            world.clone(),
        );
        app.tasks
            .keep("configuration over MCP", client.run(drain.clone()));
        mcp_handles.push((server.address, handle));
    }
    for (what, first) in waiting {
        tokio::select! {
            done = first => done.with_context(|| format!("{what}: the source ended"))?,
            () = drain.signaled() => return Ok(()),
        }
    }
    for (address, handle) in mcp_handles {
        tracing::info!(address, "waiting for configuration over MCP");
        tokio::select! {
            () = handle.synced() => {}
            () = drain.signaled() => return Ok(()),
        }
    }
    Ok(())
}

fn start_dir(dir: PathBuf, world: &world::Handle, app: &App) -> oneshot::Receiver<()> {
    let (first_tx, first) = oneshot::channel();
    let follow = config::dir::follow(dir, world.clone(), app.drain().clone(), first_tx);
    app.tasks.keep("configuration directory", follow);
    first
}
