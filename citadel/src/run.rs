//! Wiring.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result, bail};
use mesh_common::admin::Admin;
use mesh_common::metrics::Registry;
use mesh_common::readiness::Readiness;
use mesh_common::spiffe::Identity;
use mesh_common::{ctrlz, drain, fswatch, process};
use tokio::net::TcpListener;

use crate::args::{Args, Command};
use crate::authenticate::{Authenticators, TokenAuthenticator};
use crate::ca::{Authority, Bundle};
use crate::metrics::{Expiry, Metrics};
use crate::server::{self, ServerNames, Signing, TlsIdentity};
use crate::settings::{Settings, Source};
use crate::store::plugged::Plugged;
use crate::store::self_signed::{Renewal, SelfSigned};
use crate::{control_plane, debug, probe};

/// Time that calls have to end after a signal.
const DRAIN: Duration = Duration::from_secs(10);

/// With --read-signing-cert-only: how often the root is looked for, and how long.
const WAIT: (Duration, Duration) = (Duration::from_secs(5), Duration::from_secs(20 * 60));

/// How long provided files must be quiet before they are read.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// The ports, bound.
#[derive(Debug)]
pub struct Listeners {
    /// CSR services.
    pub grpc: TcpListener,
    /// Monitoring.
    pub admin: TcpListener,
}

/// What the binary does with its command line.
#[must_use]
pub fn start(args: Args) -> ExitCode {
    let result = match &args.command {
        None => return process::run(&args.log.clone(), DRAIN, |drain| run(args, drain)),
        Some(Command::Version(command)) => {
            println!("{}", command.render());
            Ok(())
        }
        Some(Command::Probe { path, interval }) => {
            probe::check_file(path, *interval, SystemTime::now()).map(|()| println!("OK"))
        }
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Binds the ports of the flags and serves until the drain begins.
///
/// # Errors
/// If the process cannot start, or a server fails.
pub async fn run(args: Args, drain: drain::Watch) -> Result<()> {
    // Checked first, so that a wrong flag is told before a port that is in use.
    let settings = Settings::new(&args)?;
    let port =
        u16::try_from(args.serving.grpc_port).context("--grpc-port must be at most 65535")?;
    let bind = async |port: u16| {
        let address = SocketAddr::new(args.serving.listen_address, port);
        TcpListener::bind(address)
            .await
            .with_context(|| format!("bind {address}"))
    };
    let listeners = Listeners {
        grpc: bind(port).await?,
        admin: bind(args.serving.monitoring_port).await?,
    };
    serve_with(args, settings, listeners, drain).await
}

/// As [`run`], on ports that are bound already.
///
/// # Errors
/// If the process cannot start, or a server fails.
pub async fn serve(args: Args, listeners: Listeners, drain: drain::Watch) -> Result<()> {
    let settings = Settings::new(&args)?;
    serve_with(args, settings, listeners, drain).await
}

async fn serve_with(
    args: Args,
    settings: Settings,
    listeners: Listeners,
    drain: drain::Watch,
) -> Result<()> {
    no_core_dumps();
    let registry = Registry::new("citadel");
    let metrics = Metrics::new(&registry);
    let readiness = Readiness::new();
    let (bundle_gate, port_gate) = (
        readiness.gate("certificate authority"),
        readiness.gate("port"),
    );

    let source = Arc::new(Source::choose(&args.authority, &settings.domains.own)?);
    let bundle = open(&source, &drain).await?;
    tracing::info!(
        subject = bundle.subject(),
        serial = bundle.serial(),
        "certificate authority loaded"
    );
    let authority = Arc::new(Authority::new(
        bundle,
        settings.ttl,
        args.issuance.experimental_dual_use,
    ));
    registry.register(Expiry::new(Arc::clone(&authority)));
    bundle_gate.open();
    tokio::spawn(follow(
        Arc::clone(&source),
        Arc::clone(&authority),
        args.clone(),
        metrics.clone(),
        drain.clone(),
    ));

    let namespace = args.serving.citadel_storage_namespace.clone();
    let own = Identity::new(
        settings.domains.own.clone(),
        &namespace,
        &control_plane::service_account("citadel"),
    )
    .context("--citadel-storage-namespace")?;

    if let Some(dir) = args.serving.control_plane_certs_dir.clone() {
        let options = control_plane::Options {
            dir,
            namespace: namespace.clone(),
            cluster_domain: args.serving.cluster_domain.clone(),
            trust_domain: settings.domains.own.clone(),
            dns_names: args.serving.append_dns_names,
            custom_names: settings.custom_names.clone(),
            ttl: settings.ttl.default,
        };
        let gate = readiness.gate("control-plane certificates");
        tokio::spawn(control_plane::run(
            Arc::clone(&authority),
            options,
            metrics.clone(),
            gate,
            drain.clone(),
        ));
    }

    let tokens = settings
        .tokens
        .map(|options| Arc::new(TokenAuthenticator::new(options)));
    match &tokens {
        Some(tokens) => tokens.follow(readiness.gate("token keys"), &drain),
        None => tracing::warn!("no --jwks-file: only callers with a certificate are served"),
    }
    let authenticators =
        Authenticators::new(settings.domains, args.issuance.cluster_id.clone(), tokens);
    let signing = Signing::new(Arc::clone(&authority), authenticators, own.clone(), metrics);

    let names = ServerNames {
        host_identities: args.serving.grpc_host_identities.clone(),
        namespace,
        cluster_domain: args.serving.cluster_domain.clone(),
    };
    let identity = {
        let authority = Arc::clone(&authority);
        tokio::task::spawn_blocking(move || TlsIdentity::new(authority, &names)).await??
    };
    let address = listeners.grpc.local_addr()?;
    let incoming = server::accept(listeners.grpc, identity.config())?;
    tokio::spawn(identity.run(drain.clone()));
    port_gate.open();

    tokio::spawn(ctrlz::serve(
        args.monitoring.clone(),
        registry.clone(),
        axum::Router::new(),
        drain.clone(),
    ));
    let admin = Admin::new(registry, readiness).merge(debug::pages(Arc::clone(&authority)));
    let admin = tokio::spawn(admin.serve(listeners.admin, drain.clone()));

    let interval = args.serving.liveness_probe_interval;
    if !args.serving.liveness_probe_path.is_empty() && !interval.is_zero() {
        let options = probe::Options {
            file: args.serving.liveness_probe_path.clone().into(),
            interval,
            check_interval: args.serving.probe_check_interval,
            address: loopback(address),
            own,
        };
        tokio::spawn(probe::run(authority, options, drain.clone()));
    }

    tracing::info!(address = %address, "serving");
    server::serve(
        incoming,
        signing,
        args.issuance.enable_legacy_csr_api,
        drain,
    )
    .await?;
    admin.await??;
    Ok(())
}

/// How a port that is bound to all addresses is dialled from here.
fn loopback(address: SocketAddr) -> SocketAddr {
    if !address.ip().is_unspecified() {
        return address;
    }
    let ip = if address.is_ipv4() {
        std::net::Ipv4Addr::LOCALHOST.into()
    } else {
        std::net::Ipv6Addr::LOCALHOST.into()
    };
    SocketAddr::new(ip, address.port())
}

/// Keys must not get into core files.
fn no_core_dumps() {
    use nix::sys::resource::{Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(error = %error, "core dumps cannot be switched off");
    }
}

/// The bundle to start with; with --read-signing-cert-only as soon as it is there.
async fn open(source: &Arc<Source>, drain: &drain::Watch) -> Result<Bundle> {
    let end = tokio::time::Instant::now() + WAIT.1;
    loop {
        let source = Arc::clone(source);
        let opened = tokio::task::spawn_blocking(move || source.open(SystemTime::now())).await?;
        if let Some(bundle) = opened? {
            return Ok(bundle);
        }
        if tokio::time::Instant::now() >= end {
            bail!(
                "no root was made by another process within {} minutes",
                WAIT.1.as_secs() / 60
            );
        }
        tracing::info!("waiting for the root of another process");
        tokio::select! {
            () = tokio::time::sleep(WAIT.0) => {}
            () = drain.signaled() => bail!("stopped while waiting for a root"),
        }
    }
}

/// Brings changes of the source into the authority, until the drain begins.
async fn follow(
    source: Arc<Source>,
    authority: Arc<Authority>,
    args: Args,
    metrics: Metrics,
    drain: drain::Watch,
) {
    let signal: futures::stream::BoxStream<'static, ()> = match &*source {
        Source::SelfSigned(_) => {
            let Some(ticks) = ticks(&args) else {
                return;
            };
            ticks
        }
        Source::Plugged(plugged) => {
            let changes = fswatch::watch(plugged.paths(), DEBOUNCE);
            Box::pin(futures::stream::unfold(changes, |mut changes| async {
                changes.recv().await.map(|()| ((), changes))
            }))
        }
    };
    let mut signal = std::pin::pin!(signal);
    let end = drain.signaled();
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => return,
            next = futures::StreamExt::next(&mut signal) => if next.is_none() { return },
        }
        let (source, current) = (Arc::clone(&source), authority.bundle());
        let multi_root = args.authority.multi_root;
        let changed = tokio::task::spawn_blocking(move || match &*source {
            Source::SelfSigned(store) => renewed(store, &current),
            Source::Plugged(plugged) => reloaded(plugged, &current, multi_root),
        })
        .await;
        match changed
            .map_err(anyhow::Error::from)
            .and_then(|changed| changed)
        {
            Ok(None) => {}
            Ok(Some(bundle)) => {
                metrics.reloads.with_label_values(&["success"]).inc();
                tracing::info!(
                    subject = bundle.subject(),
                    serial = bundle.serial(),
                    "certificate authority replaced"
                );
                authority.replace(bundle);
            }
            Err(error) => {
                metrics.reloads.with_label_values(&["failure"]).inc();
                tracing::error!(
                    error = format!("{error:#}"),
                    "certificate authority not replaced, the old one stays in use"
                );
            }
        }
    }
}

fn renewed(store: &SelfSigned, current: &Bundle) -> Result<Option<Bundle>> {
    Ok(match store.renew_if_due(current, SystemTime::now())? {
        Renewal::NotDue => None,
        Renewal::Adopted(bundle) | Renewal::Renewed(bundle) => Some(bundle),
    })
}

fn reloaded(plugged: &Plugged, current: &Bundle, multi_root: bool) -> Result<Option<Bundle>> {
    Ok(plugged.reload(current, multi_root, SystemTime::now())?)
}

/// Times at which the end of the self-signed root is looked at; `None` for never.
fn ticks(args: &Args) -> Option<futures::stream::BoxStream<'static, ()>> {
    let period = args.authority.root_cert_check_interval;
    if period.is_zero() {
        return None;
    }
    let jitter = if args.authority.root_cert_check_jitter {
        Duration::from_secs(rand::random_range(0..=period.as_secs()))
    } else {
        Duration::ZERO
    };
    let mut interval = tokio::time::interval_at(tokio::time::Instant::now() + jitter, period);
    interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    Some(Box::pin(futures::stream::unfold(
        interval,
        |mut interval| async {
            interval.tick().await;
            Some(((), interval))
        },
    )))
}
