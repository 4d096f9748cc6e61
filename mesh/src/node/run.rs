//! Wiring of the node's tasks.

use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use notify::Watcher as _;
use tokio::sync::{Notify, mpsc, watch};

use super::config::{NodeConfig, Published};
use super::controller::{Controller, Views};
use crate::lifeline;

use super::{Context, api, cluster_ip, dns, publish, store, token};

/// A log longer than this is emptied: the writer appends, so it goes on at the start.
const LONGEST_LOG: u64 = 64 << 20;

/// How long the supervisor may take to write the state file.
const STATE_LIMIT: Duration = Duration::from_secs(10);
/// The user that Envoy runs as in a Pod.
const PROXY_ID: u32 = 1337;

/// Runs the node until it is asked to end.
///
/// # Errors
/// When a part cannot be started or fails for good.
pub async fn run(config: NodeConfig, listeners: Vec<(Published, TcpListener)>) -> Result<()> {
    let filter = tracing_subscriber::EnvFilter::try_new(&config.log_filter)
        .with_context(|| format!("log filter {:?}", config.log_filter))?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(false)
        .with_writer(std::io::stderr)
        .init();
    let layout = config.layout.clone();
    for directory in [
        layout.logs(),
        layout.objects(),
        layout.citadel(),
        layout.control_plane_certificates(),
        layout.settings(),
        layout.secrets(),
    ] {
        std::fs::create_dir_all(&directory)
            .with_context(|| format!("make {}", directory.display()))?;
    }
    std::fs::set_permissions(layout.secrets(), std::fs::Permissions::from_mode(0o700))
        .context("protect the directory of secrets")?;
    let issuer = token::Issuer::generate()?;
    let jwks = serde_json::to_vec_pretty(&issuer.jwks()?).context("encode the key set")?;
    crate::state::write_atomically(&layout.jwks(), &jwks)?;

    let changed = Arc::new(Notify::new());
    let (files_tx, files) = watch::channel(0);
    let _watcher = watch_files(&layout, files_tx, Arc::clone(&changed))?;
    let views = Views::new();
    let context = Arc::new(Context {
        layout: layout.clone(),
        store: store::Store::default(),
        issuer,
        injector: views.injector.subscribe(),
        changed,
        generation: views.generation.subscribe(),
        files,
        single_id: !crate::privilege::is_mapped(PROXY_ID),
        cpus: std::thread::available_parallelism().map_or(1, std::num::NonZero::get),
    });
    let (requests, received) = mpsc::channel(64);
    let (end, mut ended) = watch::channel(false);

    let published: Vec<Published> = listeners
        .iter()
        .map(|(published, _)| published.clone())
        .collect();
    for (published, listener) in listeners {
        let target = published.target;
        let key = (target.namespace, target.service, target.port);
        let routes = views.routes.subscribe();
        tokio::spawn(async move {
            if let Err(error) = publish::forward(listener, key, routes).await {
                tracing::error!("{error:#}");
            }
        });
    }
    tokio::spawn(cluster_ip::follow(views.cluster_ips.subscribe()));
    let names = dns::serve(views.names.subscribe());
    let api = api::Api {
        context: Arc::clone(&context),
        view: views.cluster.subscribe(),
        names: views.names.subscribe(),
        requests,
        published,
        started: Instant::now(),
        end: end.clone(),
    };
    let socket = api::bind(&layout)?;
    let controller = Controller::new(Arc::clone(&context), views);
    spawn_stdin_watch(end);
    spawn_log_limit(layout.logs());
    announce(&layout).await?;
    tokio::select! {
        result = names => result.context("the cluster DNS ended"),
        result = api::serve(socket, api) => result.context("the control API ended"),
        () = controller.run(received) => Ok(()),
        _ = ended.wait_for(|end| *end) => {
            tracing::info!("ending");
            Ok(())
        }
    }
}

/// Follows what control-plane processes write for others.
fn watch_files(
    layout: &crate::layout::Layout,
    files: watch::Sender<u64>,
    changed: Arc<Notify>,
) -> Result<notify::RecommendedWatcher> {
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        let is_read = event.as_ref().is_ok_and(|event| event.kind.is_access());
        if !is_read {
            files.send_modify(|count| *count += 1);
            changed.notify_one();
        }
    })
    .context("watch files")?;
    for directory in [layout.citadel(), layout.control_plane_certificates()] {
        watcher
            .watch(&directory, notify::RecursiveMode::Recursive)
            .with_context(|| format!("watch {}", directory.display()))?;
    }
    Ok(watcher)
}

/// Until `up` says that it lets go, its end is the node's end.
fn spawn_stdin_watch(end: watch::Sender<bool>) {
    std::thread::spawn(move || {
        if !lifeline::was_let_go() {
            end.send_replace(true);
        }
    });
}

fn spawn_log_limit(logs: std::path::PathBuf) {
    tokio::spawn(async move {
        let mut tick = tokio::time::interval(Duration::from_secs(10));
        loop {
            tick.tick().await;
            for entry in std::fs::read_dir(&logs).into_iter().flatten().flatten() {
                let long = entry.metadata().is_ok_and(|data| data.len() > LONGEST_LOG);
                if long
                    && let Err(error) = std::fs::File::options()
                        .write(true)
                        .open(entry.path())
                        .and_then(|file| file.set_len(0))
                {
                    tracing::warn!("empty {}: {error}", entry.path().display());
                }
            }
        }
    });
}

/// Tells whoever started the mesh that it is there, once the supervisor has written the state file
/// by which others find it.
async fn announce(layout: &crate::layout::Layout) -> Result<()> {
    let written = async {
        while !layout.state_file().exists() {
            tokio::time::sleep(Duration::from_millis(2)).await;
        }
    };
    tokio::time::timeout(STATE_LIMIT, written)
        .await
        .context("the supervisor wrote no state file")?;
    lifeline::announce()
}
