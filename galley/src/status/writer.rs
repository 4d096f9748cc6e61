//! Owns the board, and writes statuses while this process is the leader.

mod request;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::OptionFuture;
use k8s_openapi::jiff::Timestamp;
use mesh_common::backoff::Backoff;
use mesh_common::drain;
use mesh_common::kubeclient::Client;
use mesh_common::lease::Leadership;
use mesh_core::rate::{LogLimit, TokenBucket};
use tokio::sync::{mpsc, watch};
use tokio::task::{Id as TaskId, JoinError, JoinSet};

use super::board::{Board, Now, Outcome, Write};
use super::{Findings, Metrics, Observation, Report, ReportTiming};
use request::{Answer, patch};

/// Maximum number of concurrent writes.
const PARALLEL: usize = 4;
/// First and longest delay after the API server failed or rejected every write.
const RETRY: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(60));
/// Minimum time between two log messages about failed writes.
const TROUBLE_INTERVAL: Duration = Duration::from_secs(60);

/// A question about the board.
pub(super) type Ask = Box<dyn FnOnce(&Board, bool) + Send>;

/// Sends the questions of debug pages.
#[derive(Debug, Clone)]
pub struct Question(pub(super) mpsc::Sender<Ask>);

/// Inputs of the writer.
#[derive(Debug)]
pub struct Inputs {
    /// Changes of objects.
    pub observations: mpsc::Receiver<Vec<Observation>>,
    /// Results of analyses; `None` before the first.
    pub findings: watch::Receiver<Option<Arc<Findings>>>,
    /// Reports of pilots.
    pub reports: mpsc::Receiver<Report>,
}

/// Where statuses are written; absent if configuration is in files.
pub struct Target {
    /// The API server.
    pub client: Client,
    /// Whether this process is the one that writes.
    pub leadership: Leadership,
    /// Average number of writes per second; the burst is twice as many.
    pub per_second: u32,
}

impl std::fmt::Debug for Target {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Target")
            .field("leadership", &self.leadership)
            .field("per_second", &self.per_second)
            .finish_non_exhaustive()
    }
}

/// The task that owns the board.
#[derive(Debug)]
pub struct Writer {
    board: Board,
    inputs: Inputs,
    questions: mpsc::Receiver<Ask>,
    output: Option<Output>,
    metrics: Metrics,
}

/// Maximum number of waiting questions.
const QUESTIONS: usize = 8;

fn now() -> Now {
    Now {
        monotonic: Instant::now(),
        wall: Timestamp::now(),
    }
}

impl Writer {
    /// A writer; without a target it writes nothing.
    pub fn new(
        inputs: Inputs,
        target: Option<Target>,
        timing: ReportTiming,
        metrics: Metrics,
    ) -> (Self, Question) {
        let (ask, questions) = mpsc::channel(QUESTIONS);
        let writer = Self {
            board: Board::new(timing, now()),
            inputs,
            questions,
            output: target.map(|target| Output::new(target, metrics.clone())),
            metrics,
        };
        (writer, Question(ask))
    }

    /// Runs until the process drains or the source ends.
    pub async fn run(mut self, drain: drain::Watch) {
        let signaled = drain.signaled();
        tokio::pin!(signaled);
        loop {
            let (mut is_leader, mut step) = (false, None);
            if let Some(output) = &mut self.output {
                is_leader = output.leadership.is_held();
                step = output.start(&mut self.board, now());
            }
            self.metrics.leader.set(i64::from(is_leader));
            let waiting = i64::try_from(self.board.waiting()).unwrap_or(i64::MAX);
            self.metrics.waiting.set(waiting);
            let pilots = i64::try_from(self.board.pilots()).unwrap_or(i64::MAX);
            self.metrics.pilots.set(pilots);
            self.metrics.note_left_out(self.board.left_out());
            let timer = self.board.timer();
            let timer = timer.map(|at| tokio::time::sleep_until(at.into()));
            tokio::select! {
                biased;
                () = &mut signaled => return,
                Some(turned) = turn(self.output.as_mut(), is_leader, step) => {
                    if let (Some(output), Turn::Ended(id, result)) = (&mut self.output, turned) {
                        output.settle(&mut self.board, id, result);
                    }
                }
                seen = self.inputs.observations.recv() => match seen {
                    Some(seen) => {
                        let now = now();
                        seen.into_iter().for_each(|one| self.board.observe(one, now));
                    }
                    None => return,
                },
                Ok(()) = self.inputs.findings.changed() => {
                    let findings = self.inputs.findings.borrow_and_update().clone();
                    if let Some(findings) = findings {
                        self.board.analyzed(findings, now());
                    }
                }
                // Reports mean something only once the objects are known.
                Some(report) = self.inputs.reports.recv(), if self.board.is_synced() => {
                    self.board.reported(report, now());
                }
                Some(()) = OptionFuture::from(timer) => self.board.tick(now()),
                Some(question) = self.questions.recv() => question(&self.board, is_leader),
            }
        }
    }
}

/// Why the writer looks at the board again.
enum Turn {
    /// Leadership changed, or a write is due.
    Look,
    /// A write has ended.
    Ended(TaskId, Result<Answer, JoinError>),
}

/// Waits for the next event that concerns writing; `None` without a target.
async fn turn(output: Option<&mut Output>, is_leader: bool, step: Option<Instant>) -> Option<Turn> {
    let Output {
        leadership, tasks, ..
    } = output?;
    let sleep = step.map(|at| tokio::time::sleep_until(at.into()));
    Some(tokio::select! {
        Some(ended) = tasks.join_next_with_id() => match ended {
            Ok((id, answer)) => Turn::Ended(id, Ok(answer)),
            Err(error) => Turn::Ended(error.id(), Err(error)),
        },
        () = leadership.changed(is_leader) => Turn::Look,
        Some(()) = OptionFuture::from(sleep) => Turn::Look,
    })
}

/// Writes in progress, and their limits.
struct Output {
    client: Client,
    leadership: Leadership,
    interval: Duration,
    bucket: TokenBucket,
    tasks: JoinSet<Answer>,
    writes: HashMap<TaskId, Write>,
    backoff: Backoff,
    /// No write before this time, after a failure.
    pause: Option<Instant>,
    metrics: Metrics,
    trouble: LogLimit,
}

impl std::fmt::Debug for Output {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Output")
            .field("leadership", &self.leadership)
            .field("bucket", &self.bucket)
            .finish_non_exhaustive()
    }
}

impl Output {
    fn new(target: Target, metrics: Metrics) -> Self {
        let interval = Duration::from_secs(1) / target.per_second.max(1);
        Self {
            client: target.client,
            leadership: target.leadership,
            interval,
            bucket: TokenBucket::new(interval, target.per_second.saturating_mul(2)),
            tasks: JoinSet::new(),
            writes: HashMap::new(),
            backoff: Backoff::new(RETRY.0, RETRY.1),
            pause: None,
            metrics,
            trouble: LogLimit::new(TROUBLE_INTERVAL, 1),
        }
    }

    /// Starts the writes that are due, or aborts all without leadership; returns when to look
    /// again.
    fn start(&mut self, board: &mut Board, now: Now) -> Option<Instant> {
        loop {
            if !self.leadership.is_held() {
                // Another process may write from now on.
                self.tasks.abort_all();
                return None;
            }
            if self.tasks.len() >= PARALLEL {
                return None;
            }
            let due = board.deadline()?.max(self.pause.unwrap_or(now.monotonic));
            if due > now.monotonic {
                return Some(due);
            }
            if !self.bucket.take(now.monotonic) {
                return Some(now.monotonic + self.interval);
            }
            if let Some(write) = board.next(now) {
                let work = patch(self.client.clone(), write.clone());
                let id = self.tasks.spawn(work).id();
                self.writes.insert(id, write);
            }
        }
    }

    fn settle(&mut self, board: &mut Board, id: TaskId, result: Result<Answer, JoinError>) {
        let Some(write) = self.writes.remove(&id) else {
            return;
        };
        let outcome = match result {
            Ok(Answer::Written(version, shown)) => {
                self.metrics.writes.inc();
                self.backoff.reset();
                Outcome::Written(version, shown)
            }
            Ok(Answer::Refused(class, reason)) => {
                self.failed(&write, class, &reason);
                Outcome::Refused
            }
            Ok(Answer::Unavailable(class, reason)) => {
                self.failed(&write, class, &reason);
                self.pause = Some(Instant::now() + self.backoff.next());
                Outcome::Lost
            }
            Err(error) => {
                if error.is_panic() {
                    tracing::error!(error = %error, "writing a status panicked");
                }
                Outcome::Lost
            }
        };
        board.done(&write, outcome, now());
    }

    fn failed(&mut self, write: &Write, class: &'static str, reason: &str) {
        self.metrics.write_errors.with_label_values(&[class]).inc();
        // The object was changed meanwhile: the watch shows it, and the status is computed again.
        if class == "conflict" {
            return;
        }
        if let Some(left_out) = self.trouble.allow(Instant::now()) {
            let object = write.id.0.to_string();
            tracing::warn!(
                object,
                left_out,
                "cannot write the status of the object: {reason}"
            );
        }
    }
}

#[cfg(test)]
mod tests;
