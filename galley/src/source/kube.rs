//! The Kubernetes source: every kind that the cluster serves is listed and watched, each by a task
//! of its own, and each object is sent as if it were a file `<group>/<plural>/<namespace>/<name>`.
//!
//! ```text
//! crd: which of our kinds the cluster has ──watch<Presence>──► objects (one task per kind)
//!        │                                                      list_watch: pages, then events
//!        └── list_watch of CustomResourceDefinitions            known: what was sent, by path
//!                                                               Update::Files ──► the state
//! ```
//!
//! Nothing here is fatal: what cannot be reached is tried again, and what was read stays in force.

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

/// Reports of the tasks about what does not work, on their way.
const TROUBLES: usize = 64;

/// The times that matter; others than the defaults are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// How long a kind that may not be listed holds up the first snapshot.
    pub patience: Duration,
    /// Of lists and watches.
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

/// What is followed, and how.
#[derive(Debug, Clone)]
pub struct Options {
    /// Kinds that are not read.
    pub excluded: BTreeSet<String>,
    /// Times.
    pub timing: Timing,
    /// Whether statuses are kept, and so what is shown of them is read.
    pub statuses: bool,
}

/// While any of these lives, the first synchronisation is not complete.
type Hold = mpsc::Sender<Infallible>;

/// Follows the cluster until the process drains or nobody takes updates any more.
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
            "--excludedResourceKinds names a kind that is not read anyway"
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
            // A task that failed let go, too: that is seen before everything counts as read.
            biased;
            () = drain.signaled() => return,
            Some(ended) = tasks.join_next() => {
                // They end when nobody takes updates any more, or by a fault of ours.
                if let Err(error) = ended {
                    tracing::error!(error = %error, "a task of the Kubernetes source has failed");
                }
                return;
            }
            // Nothing is ever sent: the answer comes when the last one let go.
            _ = held.recv(), if !is_synced => {
                is_synced = true;
                tracing::info!("everything in the cluster is read");
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
