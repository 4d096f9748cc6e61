//! The loop of the writer thread.

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use arc_swap::ArcSwap;
use pilot_model::{builder::Builder, mesh::Mesh};
use pilot_networking::class::{fleet::Fleet, group::ProxyId};
use tokio::sync::mpsc;

use super::{
    command::{Batch, Command, FromCluster},
    pace::{Debounce, Pace},
    state::{Published, World},
    views::Views,
};
use crate::metrics::Metrics;

/// The writer with everything that its thread owns.
#[derive(Debug)]
pub struct Writer {
    /// The state that pages can inspect.
    pub world: World,
    debounce: Debounce,
    synced: bool,
    published: Arc<ArcSwap<Published>>,
    metrics: Metrics,
}

impl Writer {
    pub fn new(
        mesh: Mesh,
        pace: Pace,
        published: Arc<ArcSwap<Published>>,
        metrics: Metrics,
    ) -> Self {
        Self {
            world: World {
                builder: Builder::new(mesh),
                snapshot: Arc::default(),
                fleet: Fleet::default(),
                views: Views::default(),
            },
            debounce: Debounce::new(pace, Instant::now()),
            synced: false,
            published,
            metrics,
        }
    }

    /// Runs until every sender of commands is dropped.
    pub fn run(mut self, mut commands: mpsc::Receiver<Command>, runtime: &tokio::runtime::Handle) {
        loop {
            let wait = self.debounce.wait(Instant::now()).filter(|_| self.synced);
            let command = match wait {
                Some(Duration::ZERO) => {
                    // Commands that are already queued go into the same snapshot.
                    match commands.try_recv() {
                        Ok(command) => Some(command),
                        Err(mpsc::error::TryRecvError::Empty) => {
                            self.publish();
                            continue;
                        }
                        Err(mpsc::error::TryRecvError::Disconnected) => None,
                    }
                }
                Some(wait) => {
                    let next = async { tokio::time::timeout(wait, commands.recv()).await };
                    match runtime.block_on(next) {
                        Ok(command) => command,
                        Err(_elapsed) => continue,
                    }
                }
                None => commands.blocking_recv(),
            };
            match command {
                Some(command) => self.take(command),
                None => return,
            }
        }
    }

    fn take(&mut self, command: Command) {
        match command {
            Command::Apply(batch) => {
                self.apply(batch);
                self.note();
            }
            Command::Mesh(mesh) => {
                self.world.builder.set_mesh(*mesh);
                self.note();
            }
            Command::Credential { key, credential } => {
                self.world.builder.set_credential(&key, credential);
                self.note();
            }
            Command::Cluster(news) => {
                self.take_from_cluster(news);
                self.note();
            }
            Command::Synced => {
                self.synced = true;
                self.publish();
            }
            Command::Connect { id, proxy, reply } => {
                let sides =
                    self.world
                        .fleet
                        .connect(id, *proxy, &self.world.snapshot, Instant::now());
                let view = self
                    .world
                    .views
                    .open(id, sides, self.world.snapshot.version);
                if reply.send(view).is_err() {
                    // The stream ended before it was registered.
                    self.disconnect(id);
                }
                self.world
                    .views
                    .set_accounts(self.world.fleet.gateway_accounts());
                self.count_missing_secrets();
            }
            Command::Disconnect { id } => self.disconnect(id),
            Command::Inspect(inspection) => (inspection.0)(&self.world),
        }
    }

    fn take_from_cluster(&mut self, news: FromCluster) {
        match news {
            FromCluster::Followed => self.world.builder.follow_cluster(),
            FromCluster::Credential { key, credential } => {
                self.world.builder.set_cluster_credential(&key, credential);
            }
            FromCluster::Faulty { key, fault } => {
                self.world.builder.set_cluster_fault(&key, &fault)
            }
            FromCluster::Forget(namespace) => {
                self.world.builder.forget_cluster_credentials(&namespace)
            }
            FromCluster::Right { account, right } => self.world.builder.set_right(&account, right),
        }
    }

    fn disconnect(&mut self, id: ProxyId) {
        self.world.views.close(id);
        self.world.fleet.disconnect(id, Instant::now());
        self.world
            .views
            .set_accounts(self.world.fleet.gateway_accounts());
    }

    fn count_missing_secrets(&mut self) {
        let missing = self.world.fleet.take_missing_secrets();
        self.metrics.missing_secrets.inc_by(missing);
    }

    fn note(&mut self) {
        if self.world.builder.is_dirty() {
            let endpoints_only = self.world.builder.is_endpoints_only();
            self.debounce.note(Instant::now(), endpoints_only);
        }
    }

    fn apply(&mut self, batch: Batch) {
        if let Some(collection) = batch.full {
            let named: std::collections::BTreeSet<_> =
                batch.changes.iter().map(|change| &change.key).collect();
            for key in self.world.builder.keys(collection) {
                if !named.contains(&key) {
                    self.put(collection, &key, None);
                }
            }
        }
        for change in batch.changes {
            self.put(change.collection, &change.key, change.object);
        }
    }

    fn put(
        &mut self,
        collection: &'static istio_api::collections::Collection,
        key: &pilot_model::key::ObjectKey,
        object: Option<istio_api::object::Object>,
    ) {
        if let Err(refused) = self.world.builder.apply(collection, key, object) {
            self.metrics
                .invalid_objects
                .with_label_values(&[collection.name])
                .inc();
            tracing::warn!(
                kind = refused.kind,
                ns = refused.namespace,
                name = refused.name,
                error = refused.reason,
                "an object is invalid; its last good version stays in force"
            );
        }
    }

    fn publish(&mut self) {
        let start = Instant::now();
        let changed = self.debounce.first();
        self.debounce.clear();
        let (snapshot, changes) = self.world.builder.publish();
        self.world.snapshot = snapshot;
        let complaints = self
            .world
            .snapshot
            .unconverted
            .values()
            .map(|list| list.len());
        let complaints: usize = complaints.sum();
        if changes.unconverted && complaints > 0 {
            tracing::warn!(
                count = complaints,
                "parts of 1.1 policies cannot be converted; see /debug/push_status"
            );
        }
        let affected = self
            .world
            .fleet
            .follow(&self.world.snapshot, &changes, Instant::now());
        self.count_missing_secrets();
        self.published.store(Arc::new(Published {
            snapshot: self.world.snapshot.clone(),
            synced: self.synced,
        }));
        let changed_at = changed.unwrap_or(start);
        let sent = self.world.views.publish(
            &self.world.fleet,
            affected,
            &self.world.snapshot,
            changed_at,
        );
        let elapsed = start.elapsed();
        if let Some(changed) = changed {
            let waited = start.saturating_duration_since(changed);
            self.metrics.debounce.observe(waited.as_secs_f64());
        }
        self.metrics
            .snapshot_built(elapsed, &self.world.snapshot, &changes);
        tracing::debug!(
            version = self.world.snapshot.version,
            proxies = sent,
            elapsed_ms = elapsed.as_secs_f64() * 1e3,
            "published a snapshot"
        );
    }
}
