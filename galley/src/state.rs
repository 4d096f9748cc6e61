//! The task that owns the engine: takes updates and publishes snapshots.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Instant, SystemTime, UNIX_EPOCH};

use mesh_common::drain;
use mesh_core::mcp::Snapshot;
use tokio::sync::{mpsc, oneshot, watch};

use crate::metrics::Metrics;
use crate::status::{self, Observation};
use galley_engine::engine::{Engine, Report};
use galley_engine::problem::{Problem, Severity};
use galley_engine::publish::Pace;
use galley_engine::settings::Settings;
use galley_engine::update::Update;
use mesh_core::debounce::Reason;

/// A question about the engine.
pub type Query = Box<dyn FnOnce(&Engine) + Send>;

/// Maximum number of waiting questions.
const QUERIES: usize = 8;

/// Sends the questions of debug pages.
#[derive(Debug, Clone)]
pub struct QueryHandle(mpsc::Sender<Query>);

impl QueryHandle {
    /// Runs `question` on the engine; `None` if the task has ended.
    pub async fn ask<T: Send + 'static>(
        &self,
        question: impl FnOnce(&Engine) -> T + Send + 'static,
    ) -> Option<T> {
        let (answer, answered) = oneshot::channel();
        let query: Query = Box::new(move |engine| {
            // The client may have disconnected.
            let _ = answer.send(question(engine));
        });
        self.0.send(query).await.ok()?;
        answered.await.ok()
    }
}

/// The task and its channels.
pub struct Task {
    engine: Engine,
    updates: mpsc::Receiver<Update>,
    settings: watch::Receiver<Settings>,
    queries: mpsc::Receiver<Query>,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    metrics: Metrics,
    pace: Pace,
    changes: usize,
    last_event: Option<Instant>,
    last_publish: Option<Instant>,
    counted: BTreeMap<String, ()>,
    /// Receives what updates mean for statuses.
    observer: Option<mpsc::Sender<Vec<Observation>>>,
}

impl std::fmt::Debug for Task {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Task")
            .field("pace", &self.pace)
            .finish_non_exhaustive()
    }
}

impl Task {
    /// `snapshots` gets its first value after the first synchronisation.
    pub fn new(
        engine: Engine,
        updates: mpsc::Receiver<Update>,
        settings: watch::Receiver<Settings>,
        snapshots: watch::Sender<Option<Arc<Snapshot>>>,
        metrics: Metrics,
    ) -> (Self, QueryHandle) {
        let (queries_tx, queries) = mpsc::channel(QUERIES);
        let task = Self {
            engine,
            updates,
            settings,
            queries,
            snapshots,
            metrics,
            pace: Pace::default(),
            changes: 0,
            last_event: None,
            last_publish: None,
            counted: BTreeMap::new(),
            observer: None,
        };
        (task, QueryHandle(queries_tx))
    }

    /// Sends observations about every object. The receiver must not block on anything else: all
    /// updates wait for it.
    #[must_use]
    pub fn observed_by(mut self, observer: mpsc::Sender<Vec<Observation>>) -> Self {
        self.observer = Some(observer);
        self
    }

    async fn tell(&mut self, update: &Update) {
        if let Some(observer) = &self.observer {
            let seen = status::observe(update);
            // Without its receiver the task goes on.
            if !seen.is_empty() && observer.send(seen).await.is_err() {
                self.observer = None;
            }
        }
    }

    /// Runs until the process drains or the source ends.
    pub async fn run(mut self, drain: drain::Watch) {
        let signaled = drain.signaled();
        tokio::pin!(signaled);
        let mut check_references = None;
        loop {
            let publish = self.pace.deadline();
            let now = tokio::time::Instant::now;
            let publish_at = publish.map(|(at, _)| tokio::time::Instant::from_std(at));
            let check_at = check_references.map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = &mut signaled => return,
                update = self.updates.recv() => match update {
                    Some(update) => {
                        self.tell(&update).await;
                        let first = self.update(update);
                        if first {
                            // The first snapshot is published without waiting for more changes.
                            self.publish();
                        }
                        check_references = Some(Instant::now());
                    }
                    None => return,
                },
                Some(query) = self.queries.recv() => query(&self.engine),
                Ok(()) = self.settings.changed() => {
                    let settings = self.settings.borrow_and_update().clone();
                    let report = self.engine.reconfigure(settings);
                    self.report(report);
                }
                () = tokio::time::sleep_until(publish_at.unwrap_or_else(now)), if publish.is_some() => {
                    match publish {
                        Some((_, Reason::MaxWait)) => self.metrics.max_time_reached.inc(),
                        _ => self.metrics.quiesce_reached.inc(),
                    }
                    self.publish();
                }
                () = tokio::time::sleep_until(check_at.unwrap_or_else(now)), if check_at.is_some() => {
                    check_references = self.check_references();
                }
            }
        }
    }

    /// Returns whether this update completed the first synchronisation.
    fn update(&mut self, update: Update) -> bool {
        let now = Instant::now();
        if let Some(last) = self.last_event.replace(now) {
            self.metrics
                .event_span
                .observe(last.elapsed().as_secs_f64() * 1000.0);
        }
        let synced = self.engine.is_synced();
        let report = self.engine.apply(update);
        let first = !synced && self.engine.is_synced();
        self.report(report);
        if first {
            self.count();
        }
        first
    }

    fn report(&mut self, report: Report) {
        let Report {
            changes,
            new_problems,
            solved,
            failures,
        } = report;
        for (service, error) in &failures {
            tracing::error!(service = %service, error, "cannot synthesise a ServiceEntry");
        }
        self.changes += changes;
        self.metrics.events_processed.inc_by(changes as u64);
        for problem in &new_problems {
            let severity = match problem.severity {
                Severity::Warning => "warning",
                Severity::Error => "error",
            };
            self.metrics
                .problems_total
                .with_label_values(&[severity])
                .inc();
            log(problem);
        }
        for problem in &solved {
            tracing::info!(
                file = %problem.file.display(),
                object = problem.object,
                field = problem.field,
                "configuration problem solved: {}",
                problem.message
            );
        }
        self.note_changes();
        if !new_problems.is_empty() || !solved.is_empty() {
            self.count();
        }
    }

    fn note_changes(&mut self) {
        if self.engine.is_dirty() {
            self.metrics.on_change.inc();
            if self.pace.deadline().is_some() {
                self.metrics.timer_resets.inc();
            }
            self.pace.changed(Instant::now());
        }
    }

    fn publish(&mut self) {
        self.pace.published(Instant::now());
        let snapshot = self.engine.publish();
        tracing::debug!(
            resources = snapshot.resources(),
            changes = self.changes,
            "published"
        );
        self.snapshots.send_replace(Some(snapshot));
        self.metrics.snapshots_published.inc();
        self.metrics.snapshot_events.observe(self.changes as f64);
        self.changes = 0;
        if let Some(last) = self.last_publish.replace(Instant::now()) {
            self.metrics
                .snapshot_lifetime
                .observe(last.elapsed().as_secs_f64() * 1000.0);
        }
        let time = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        self.metrics
            .last_change
            .set(i64::try_from(time.as_secs()).unwrap_or(i64::MAX));
        self.count();
    }

    fn count(&mut self) {
        let whole = |number: usize| i64::try_from(number).unwrap_or(i64::MAX);
        self.metrics
            .instances(&self.engine.counts(), &mut self.counted);
        let (files, _) = self.engine.store().counts();
        let problems = self.engine.problem_count();
        self.metrics.files.set(whole(files));
        self.metrics.problems.set(whole(problems));
        self.metrics
            .withheld
            .set(whole(self.engine.withheld().values().sum()));
    }

    fn check_references(&mut self) -> Option<Instant> {
        if !self.engine.is_synced() {
            return None;
        }
        let (problems, next) = self.engine.overdue(Instant::now());
        for problem in problems {
            self.metrics
                .problems_total
                .with_label_values(&["warning"])
                .inc();
            log(&problem);
        }
        next
    }
}

/// Logs a problem: one line, with everything that is needed to find the place.
fn log(problem: &Problem) {
    tracing::warn!(
        severity = ?problem.severity,
        file = %problem.file.display(),
        document = problem.document,
        line = problem.line,
        object = problem.object,
        field = problem.field,
        effect = problem.effect,
        "configuration problem: {}",
        problem.message
    );
}
