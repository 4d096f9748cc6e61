//! Wiring of the process.

mod source;
mod tasks;

use std::net::SocketAddr;
use std::process::ExitCode;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime};

use anyhow::{Context, Result};
use futures::future::BoxFuture;
use mesh_common::app::{self, App};
use mesh_common::owner::Owner;
use mesh_common::{drain, process};
use mesh_core::spiffe::Identity;
use tokio::net::TcpListener;

use crate::args::{Args, Command};
use crate::authenticate::{Authenticators, TokenAuthenticator};
use crate::ca::Authority;
use crate::cluster::{Cluster, Timing};
use crate::control_plane::{self, Profile};
use crate::metrics::{Expiry, Metrics};
use crate::server::{self, ServerNames, Signing, TlsIdentity};
use crate::settings::{Settings, Source};
use crate::{debug, probe};
use tasks::Dependencies;

/// Time for calls to complete after a termination signal.
const DRAIN: Duration = Duration::from_secs(10);

/// The bound ports.
#[derive(Debug)]
pub struct Listeners {
    /// Certificate services.
    pub grpc: TcpListener,
    /// Monitoring.
    pub admin: TcpListener,
}

/// Runs the command line of the binary.
#[must_use]
pub fn start(args: Args) -> ExitCode {
    let result = match &args.command {
        None => {
            return process::run(&args.log.clone(), DRAIN, |drain| async {
                Bound::new(args).await?.run(drain).await
            });
        }
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

/// A citadel with its ports open.
pub struct Bound {
    args: Args,
    settings: Settings,
    listeners: Listeners,
    timing: Timing,
    /// A task dependencies its own.
    extra: Option<BoxFuture<'static, Result<()>>>,
}

impl std::fmt::Debug for Bound {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Bound")
            .field("args", &self.args)
            .field("listeners", &self.listeners)
            .finish_non_exhaustive()
    }
}

impl Bound {
    /// Checks the arguments and opens the ports that they name.
    ///
    /// # Errors
    /// If a flag is wrong or a port cannot be had.
    pub async fn new(args: Args) -> Result<Self> {
        // Checked first, so that a wrong flag is reported before a port that is in use.
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
        Ok(Self::with(args, settings, listeners))
    }

    /// Checks the arguments, but for their ports: these are open already.
    ///
    /// # Errors
    /// If a flag is wrong.
    pub fn on(args: Args, listeners: Listeners) -> Result<Self> {
        let settings = Settings::new(&args)?;
        Ok(Self::with(args, settings, listeners))
    }

    fn with(args: Args, settings: Settings, listeners: Listeners) -> Self {
        Self {
            args,
            settings,
            listeners,
            timing: Timing::default(),
            extra: None,
        }
    }

    /// Follows the cluster with other times.
    #[must_use]
    pub fn with_timing(mut self, timing: Timing) -> Self {
        self.timing = timing;
        self
    }

    /// Runs another supervised task, `extra`, which must not end before the process.
    #[must_use]
    pub fn with_task(mut self, task: BoxFuture<'static, Result<()>>) -> Self {
        self.extra = Some(task);
        self
    }

    /// Serves until the drain begins.
    ///
    /// # Errors
    /// If the process cannot start, or one of its tasks fails.
    pub async fn run(self, drain: drain::Watch) -> Result<()> {
        app::run("citadel", drain, |app| start_tasks(self, app)).await
    }
}

async fn start_tasks(bound: Bound, app: App) -> Result<()> {
    let Bound {
        args,
        settings,
        listeners,
        timing,
        extra,
    } = bound;
    let (registry, readiness) = (&app.registry, &app.readiness);
    if let Some(extra) = extra {
        app.tasks.keep("extra", extra);
    }
    no_core_dumps();
    let metrics = Metrics::new(registry);
    let namespace = args.serving.citadel_storage_namespace.clone();
    let own = Identity::new(
        settings.domains.own.clone(),
        &namespace,
        &control_plane::service_account("citadel"),
    )
    .context("--citadel-storage-namespace")?;
    let cluster = match &settings.cluster {
        Some(kube) => {
            let owner = Owner::from(&args.cluster.owner);
            Some(Cluster::new(kube, &namespace, owner, timing, metrics.clone()).await?)
        }
        None => None,
    };
    let source = Arc::new(Source::choose(
        &args.authority,
        &settings.domains.own,
        cluster.is_some(),
    )?);
    let secret = match (&*source, &cluster) {
        (Source::Secret(options), Some(cluster)) => Some(cluster.root_secret(options.clone())),
        _ => None,
    };

    // Its name says what the process is waiting for, so it comes first.
    let waits_for = secret.as_ref().map_or_else(
        || "certificate authority".to_owned(),
        |secret| format!("certificate authority ({})", secret.place()),
    );
    let (bundle_gate, port_gate) = (readiness.gate(&waits_for), readiness.gate("port"));
    let tokens = settings
        .tokens
        .clone()
        .map(|options| Arc::new(TokenAuthenticator::new(options)));
    match &tokens {
        Some(tokens) => tokens.follow(readiness.gate("token keys"), &app.tasks),
        None if cluster.is_none() => tracing::warn!(
            "no cluster and no --jwks-file: only callers with a client certificate are accepted"
        ),
        None => {}
    }
    let checks = args.cluster.renewal_requires_service_account;
    let secrets = args.cluster.control_plane_secrets;
    let followed = cluster.as_ref().filter(|_| checks || secrets);
    let (accounts, owners) = followed
        .map(|cluster| {
            let gate = checks.then(|| readiness.gate("ServiceAccounts"));
            cluster.follow_accounts(gate, &app.tasks)
        })
        .unzip();
    let files_gate = args.serving.control_plane_certs_dir.as_ref();
    let files_gate = files_gate.map(|_| readiness.gate("control-plane certificates"));
    app.introspect(args.monitoring.clone(), axum::Router::new());
    let shown = Arc::new(OnceLock::new());
    app.monitor(listeners.admin, debug::pages(Arc::clone(&shown)));

    let bundle = match &secret {
        Some(secret) => secret.open(app.drain()).await?,
        None => source::open(&source, app.drain()).await?,
    };
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
    shown.get_or_init(|| Arc::clone(&authority));
    bundle_gate.open();

    let dependencies = Dependencies {
        args: &args,
        authority: &authority,
        metrics: &metrics,
        tasks: &app.tasks,
    };
    let profile = Profile {
        namespace: namespace.clone(),
        cluster_domain: args.serving.cluster_domain.clone(),
        trust_domain: settings.domains.own.clone(),
        dns_names: args.serving.append_dns_names,
        custom_names: settings.custom_names.clone(),
        ttl: settings.ttl.default,
    };
    if let Some(gate) = files_gate {
        dependencies.write_files(profile.clone(), gate);
    }
    match &cluster {
        Some(cluster) => dependencies.join_cluster(cluster, source, secret, profile, owners),
        None => dependencies.follow(source),
    }

    let reviewer = cluster.as_ref().map(|cluster| {
        let audiences = settings.audiences.clone();
        Arc::new(cluster.reviewer(audiences))
    });
    let authenticators = Authenticators {
        domains: settings.domains,
        cluster_id: args.issuance.cluster_id.clone(),
        own: own.clone(),
        accounts: accounts.filter(|_| checks),
        tokens,
        reviewer,
    };
    let signing = Signing::new(
        Arc::clone(&authority),
        authenticators,
        own.clone(),
        metrics.clone(),
    );

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
    app.tasks
        .keep("server certificate", identity.run(app.drain().clone()));
    port_gate.open();

    dependencies.probe(loopback(address), own);
    tracing::info!(address = %address, "serving");
    let serve = server::serve(
        incoming,
        signing,
        args.issuance.enable_legacy_csr_api,
        app.drain().clone(),
    );
    app.tasks.keep("certificate service", serve);
    Ok(())
}

/// Address at which a port that is bound to all addresses is reached from this process.
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

/// Core dumps would contain private keys.
fn no_core_dumps() {
    use nix::sys::resource::{Resource, setrlimit};
    if let Err(error) = setrlimit(Resource::RLIMIT_CORE, 0, 0) {
        tracing::warn!(error = %error, "cannot disable core dumps");
    }
}
