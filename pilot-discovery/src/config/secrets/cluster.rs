//! Credentials from the Secrets of a cluster.
//!
//! ```text
//! accounts of connected gateways ──► plan (pure) ──► review: may the account list Secrets?
//!  (world, proved by certificates)        │
//!                                         └────────► namespace: list and watch its Secrets
//! ```
//!
//! Pilot reads Secrets only where a gateway may read them itself, and only while such a gateway is
//! connected. Pilot's own account needs `create` of SubjectAccessReviews, and `list` and `watch`
//! of Secrets in these namespaces.

mod namespace;
mod plan;
mod review;
mod status;

use std::{collections::BTreeMap, sync::Arc};

use imbl::ordset::DiffItem;
use mesh_common::{
    drain,
    kubeclient::Client,
    list_watch,
    metrics::{IntCounterVec, Registry},
};
use pilot_model::credential::Account;
use tokio::{sync::mpsc, task::JoinSet, time::Instant};

pub use self::{plan::Timing, status::Status};
use self::{
    plan::{Action, Plan},
    review::Reviewer,
};
use crate::world::{self, Accounts, Command, FromCluster};

/// Capacity of the channel for news of namespaces.
const NEWS: usize = 16;

/// Metrics of the followed cluster.
#[derive(Clone, Debug)]
pub struct Metrics {
    lists: list_watch::Metrics,
    reviews: IntCounterVec,
}

impl Metrics {
    pub fn register(registry: &Registry) -> Self {
        Self {
            lists: list_watch::Metrics {
                events: registry.counter(
                    "pilot_secret_events_total",
                    "changed and deleted Secrets reported by the API server",
                ),
                errors: registry.counter_vec(
                    "pilot_secret_errors_total",
                    "failed attempts to list or watch Secrets, by kind of failure",
                    &["error"],
                ),
            },
            reviews: registry.counter_vec(
                "pilot_access_reviews_total",
                "access reviews of whether an account may list Secrets, by answer",
                &["result"],
            ),
        }
    }
}

/// Settings of [`follow`].
#[derive(Debug)]
pub struct Options {
    pub timing: Timing,
    pub lists: list_watch::Timing,
    pub metrics: Metrics,
    pub status: Status,
}

/// Follows what connected gateways may read, until the process drains. The world must already
/// know that there is a cluster.
pub async fn follow(client: Client, options: Options, world: world::Handle, drain: drain::Watch) {
    let mut gateways = world.gateways();
    let (news_tx, mut news) = mpsc::channel(NEWS);
    let lists = options.metrics.lists.clone();
    let mut cluster = Cluster {
        plan: Plan::new(options.timing),
        reviewer: Reviewer::new(
            client.clone(),
            options.metrics.reviews,
            options.status.clone(),
        ),
        api: list_watch::Api::new(client, options.lists, lists),
        status: options.status,
        world,
        news: news_tx,
        reviews: JoinSet::new(),
        namespaces: BTreeMap::new(),
    };
    // Gateways that are already connected count as new.
    gateways.mark_changed();
    let mut known = Accounts::new();
    loop {
        let next = cluster.plan.next();
        let due = async {
            match next {
                Some(at) => tokio::time::sleep_until(at).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = drain.signaled() => return,
            () = due => cluster.plan.tick(Instant::now()),
            changed = gateways.changed() => {
                if changed.is_err() {
                    return;
                }
                let now = gateways.borrow_and_update().clone();
                cluster.joined_and_left(&known, &now);
                known = now;
            }
            Some(Ok((account, answer))) = cluster.reviews.join_next() => {
                cluster.plan.answered(&account, answer, Instant::now());
            }
            Some(namespace) = news.recv() => cluster.plan.listed(&namespace),
        }
        if cluster.act().await.is_err() {
            return;
        }
    }
}

struct Cluster {
    plan: Plan,
    reviewer: Reviewer,
    api: list_watch::Api,
    status: Status,
    world: world::Handle,
    /// Receives namespaces whose first list arrived or failed.
    news: mpsc::Sender<Arc<str>>,
    reviews: JoinSet<(Account, Option<bool>)>,
    /// One task per namespace, which ends when its set is dropped.
    namespaces: BTreeMap<Arc<str>, JoinSet<()>>,
}

impl Cluster {
    fn joined_and_left(&mut self, known: &Accounts, now: &Accounts) {
        let time = Instant::now();
        for item in known.diff(now) {
            match item {
                DiffItem::Add(account) => self.plan.joined(account, time),
                DiffItem::Remove(account) => self.plan.left(account, time),
            }
        }
    }

    async fn act(&mut self) -> anyhow::Result<()> {
        for action in self.plan.take() {
            match action {
                Action::Ask(account) => {
                    let reviewer = self.reviewer.clone();
                    self.reviews.spawn(async move {
                        let answer = reviewer.may_list(&account).await;
                        (account, answer)
                    });
                }
                Action::Start(namespace) => {
                    let follower = namespace::Secrets::new(
                        namespace.clone(),
                        self.world.clone(),
                        self.news.clone(),
                        self.status.clone(),
                    );
                    let mut task = JoinSet::new();
                    task.spawn(follower.run(self.api.clone()));
                    self.namespaces.insert(namespace, task);
                }
                Action::Stop(namespace) => {
                    if let Some(mut task) = self.namespaces.remove(&namespace) {
                        // It must not send anything after the commands that follow.
                        task.shutdown().await;
                    }
                    self.status.forget(&namespace);
                    let forget = FromCluster::Forget(namespace);
                    self.world.send(Command::Cluster(forget)).await?;
                }
                Action::Tell(account, right) => {
                    let reported = FromCluster::Right { account, right };
                    self.world.send(Command::Cluster(reported)).await?;
                }
            }
        }
        Ok(())
    }
}
