//! The Kubernetes source: one task per kind lists and watches it, and each object is sent as if it
//! were a file `<group>/<plural>/<namespace>/<name>`.
//!
//! ```text
//! crd: which of our kinds the cluster has ──watch<Presence>──► objects (one task per kind)
//!        │                                                      list_watch: pages, then events
//!        └── list_watch of CustomResourceDefinitions            known: what was sent, by path
//!                                                               Update::Files ──► the state
//! ```
//!
//! No failure is fatal: requests are repeated, and what was read stays in force.

mod crd;
mod kinds;
mod metrics;
mod objects;
mod patience;
mod trouble;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::time::Duration;

use mesh_common::drain;
use mesh_common::kubeclient::Client;
use mesh_common::list_watch::{self, Api, Closed};
use tokio::sync::{mpsc, watch};
use tokio::task::JoinSet;

pub use metrics::Metrics;

use crd::Definitions;
use galley_engine::update::Update;
use objects::Objects;
use patience::Patience;
use trouble::Troubles;

/// Maximum number of waiting reports of the tasks about failures.
const TROUBLES: usize = 64;

/// Timing; only tests change the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a kind that may not be listed delays the first snapshot.
    pub patience: Duration,
    /// Timing of lists and watches.
    pub requests: list_watch::Timing,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            patience: Duration::from_secs(30),
            requests: list_watch::Timing::default(),
        }
    }
}

/// What to follow, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kinds that are not read.
    pub excluded: BTreeSet<String>,
    /// Times.
    pub timing: Timing,
    /// Whether statuses are enabled, so that those of objects are read.
    pub statuses: bool,
}

/// The first synchronisation is not complete while any of these exists.
type Hold = mpsc::Sender<Infallible>;

/// Follows the cluster until the process drains or the receiver of updates is gone.
pub async fn run(
    client: Client,
    options: Options,
    metrics: Metrics,
    updates: mpsc::Sender<Update>,
    drain: drain::Watch,
) {
    let Options {
        excluded,
        timing,
        statuses,
    } = options;
    for kind in kinds::unknown(&excluded) {
        tracing::warn!(
            kind,
            "--excludedResourceKinds names a kind that galley does not read"
        );
    }
    let (hold, mut held) = mpsc::channel(1);
    let (troubles_tx, mut troubles_rx) = mpsc::channel(TROUBLES);
    let mut troubles = Troubles::default();
    let api = Api::new(client, timing.requests, metrics.requests());
    let patience = || Patience::new(hold.clone(), timing.patience);
    let mut definitions = Definitions::new(
        patience(),
        metrics.clone(),
        trouble::Report::new(kinds::DEFINITIONS.folder(), troubles_tx.clone()),
    );
    let mut tasks = JoinSet::new();
    for kind in kinds::wanted(&excluded) {
        let (presence_tx, presence) = watch::channel(kind.presence());
        if kind.is_custom {
            definitions.add(kind, presence_tx);
        }
        let report = trouble::Report::new(kind.folder(), troubles_tx.clone());
        let mut objects = Objects::new(kind, updates.clone(), patience(), metrics.clone(), report);
        objects.statuses = statuses && kind.is_custom;
        tasks.spawn(objects::follow(api.clone(), objects, presence));
    }
    drop((hold, troubles_tx));
    tasks.spawn(async move {
        let target = kinds::DEFINITIONS.target("v1");
        let Closed = api.follow(&target, &mut definitions).await;
    });
    let mut is_synced = false;
    loop {
        tokio::select! {
            // A task that panicked has also dropped its hold: notice that before everything counts
            // as read.
            biased;
            () = drain.signaled() => return,
            Some(ended) = tasks.join_next() => {
                // Tasks end when the receiver of updates is gone, or by a panic.
                if let Err(error) = ended {
                    tracing::error!(error = %error, "a task of the Kubernetes source panicked");
                }
                return;
            }
            // Nothing is ever sent: `None` means that the last hold was dropped.
            _ = held.recv(), if !is_synced => {
                is_synced = true;
                tracing::info!("read all objects of the cluster");
                if updates.send(Update::Synced).await.is_err() {
                    return;
                }
            }
            Some((task, problem)) = troubles_rx.recv() => {
                troubles.set(task, problem);
                if updates.send(Update::Root(troubles.all())).await.is_err() {
                    return;
                }
            }
        }
    }
}
