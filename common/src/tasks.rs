//! Supervised tasks: one that panics, fails or ends too early ends the process.
//!
//! A process whose source of configuration has died, but which still says that it is ready, is worse
//! than one that is started again.

use std::any::Any;

use anyhow::anyhow;
use tokio::sync::mpsc;

use crate::drain;
use crate::metrics::{IntCounterVec, Registry};

/// Starts tasks under supervision. Clones share the supervisor, which waits for the end of all of
/// them: what is not a task must not keep one.
#[derive(Clone, Debug)]
pub struct Tasks {
    drain: drain::Watch,
    failures: IntCounterVec,
    failed: mpsc::Sender<anyhow::Error>,
}

/// Waits for tasks and reports the first failure.
#[derive(Debug)]
pub struct Supervisor {
    failed: mpsc::Receiver<anyhow::Error>,
}

/// What a task may return.
pub trait Outcome: Send + 'static {
    /// As a result.
    ///
    /// # Errors
    /// Why the task failed.
    fn into_result(self) -> anyhow::Result<()>;
}

impl Outcome for () {
    fn into_result(self) -> anyhow::Result<()> {
        Ok(())
    }
}

impl<E: Into<anyhow::Error> + Send + 'static> Outcome for Result<(), E> {
    fn into_result(self) -> anyhow::Result<()> {
        self.map_err(Into::into)
    }
}

/// When a task may end without an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Life {
    /// Only after the drain began.
    Process,
    /// At any time.
    Own,
}

/// A supervisor, and what it supervises. The tasks of a process end when `drain` begins.
#[must_use]
pub fn supervise(registry: &Registry, drain: drain::Watch) -> (Tasks, Supervisor) {
    let failures = registry.counter_vec(
        "mesh_task_failures_total",
        "Tasks that panicked, failed or ended too early",
        &["task"],
    );
    // The first failure decides; later ones are only logged.
    let (sender, failed) = mpsc::channel(1);
    let tasks = Tasks {
        drain,
        failures,
        failed: sender,
    };
    (tasks, Supervisor { failed })
}

impl Tasks {
    /// When the process is to end.
    #[must_use]
    pub fn drain(&self) -> &drain::Watch {
        &self.drain
    }

    /// Starts a task that runs until the drain begins and then finishes its work.
    pub fn keep<T: Outcome>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        self.start(name, Life::Process, task);
    }

    /// Starts a task that runs until the drain begins and is then dropped where it stands.
    pub fn keep_until_drain<T: Outcome>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let signaled = self.drain.signaled();
        self.start(name, Life::Process, async move {
            tokio::select! {
                // What ends because the others do has not failed.
                biased;
                () = signaled => Ok(()),
                outcome = task => outcome.into_result(),
            }
        });
    }

    /// Starts a task that may end at any time, but neither panic nor fail.
    pub fn once<T: Outcome>(
        &self,
        name: &'static str,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        self.start(name, Life::Own, task);
    }

    fn start<T: Outcome>(
        &self,
        name: &'static str,
        life: Life,
        task: impl Future<Output = T> + Send + 'static,
    ) {
        let task = tokio::spawn(task);
        let tasks = self.clone();
        tokio::spawn(async move {
            let failure = match task.await {
                Ok(outcome) => match outcome.into_result() {
                    Err(error) => Some(error.context(format!("task {name:?} failed"))),
                    Ok(()) if life == Life::Process && !tasks.drain.is_signaled() => {
                        Some(anyhow!("task {name:?} ended, but the process needs it"))
                    }
                    Ok(()) => None,
                },
                Err(error) => error
                    .try_into_panic()
                    .ok()
                    .map(|panic| anyhow!("task {name:?} panicked: {}", text(&*panic))),
            };
            if let Some(failure) = failure {
                tasks.fail(name, failure);
            }
        });
    }

    fn fail(&self, name: &str, failure: anyhow::Error) {
        self.failures.with_label_values(&[name]).inc();
        tracing::error!(
            task = name,
            error = format!("{failure:#}"),
            "a task failed, the process ends"
        );
        // Another failure came first, or nobody waits any more.
        let _ = self.failed.try_send(failure);
    }
}

impl Supervisor {
    /// The first failure of a task; pending as long as there is none. For a process that has
    /// something to end in order, such as another process, before it leaves.
    pub async fn failed(&mut self) -> anyhow::Error {
        match self.failed.recv().await {
            Some(error) => error,
            None => std::future::pending().await,
        }
    }

    /// Runs `start`, which starts the tasks, then waits until every task has ended.
    ///
    /// # Errors
    /// The error of `start` or the first failure of a task, at once: the other tasks are still
    /// there, to be drained by the caller.
    pub async fn run(
        mut self,
        start: impl Future<Output = anyhow::Result<()>>,
    ) -> anyhow::Result<()> {
        tokio::select! {
            Some(error) = self.failed.recv() => return Err(error),
            started = start => started?,
        }
        self.failed.recv().await.map_or(Ok(()), Err)
    }
}

/// What `panic!` was given.
fn text(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str))
        .unwrap_or("without a message")
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, Ordering};
    use std::time::Duration;

    use super::*;

    const LIMIT: Duration = Duration::from_secs(10);

    /// The result of a process that runs a healthy task beside those of `start`, its metrics, and
    /// whether the healthy task was drained.
    async fn run(start: impl FnOnce(&Tasks), end: bool) -> (anyhow::Result<()>, String, bool) {
        let registry = Registry::empty();
        let (trigger, drain) = drain::channel();
        let (tasks, supervisor) = supervise(&registry, drain);
        let drained = Arc::new(AtomicBool::new(false));
        let (flag, signaled) = (Arc::clone(&drained), tasks.drain().signaled());
        tasks.keep("healthy", async move {
            signaled.await;
            tokio::time::sleep(Duration::from_millis(20)).await;
            flag.store(true, Ordering::SeqCst);
        });
        start(&tasks);
        if end {
            trigger.signal();
        }
        let run = supervisor.run(async move {
            drop(tasks);
            Ok(())
        });
        let result = tokio::time::timeout(LIMIT, run).await.unwrap();
        assert!(trigger.drain(LIMIT).await, "a task is left");
        (result, registry.text(), drained.load(Ordering::SeqCst))
    }

    #[tokio::test]
    async fn a_panic_ends_the_process_after_the_others_were_drained() {
        let (result, metrics, drained) = run(
            |tasks| {
                tasks.once("bad", async {
                    if true {
                        panic!("oh {}", "no");
                    }
                });
            },
            false,
        )
        .await;
        let error = result.unwrap_err();
        assert_eq!(error.to_string(), "task \"bad\" panicked: oh no");
        assert!(drained);
        assert!(
            metrics.contains("mesh_task_failures_total{task=\"bad\"} 1"),
            "{metrics}"
        );
    }

    #[tokio::test]
    async fn an_error_ends_the_process() {
        let (result, _, drained) = run(
            |tasks| tasks.once("bad", async { Err::<(), _>(anyhow!("out of luck")) }),
            false,
        )
        .await;
        assert_eq!(
            format!("{:#}", result.unwrap_err()),
            "task \"bad\" failed: out of luck"
        );
        assert!(drained);
    }

    #[tokio::test]
    async fn an_early_end_ends_the_process_unless_it_is_allowed() {
        let (result, ..) = run(|tasks| tasks.keep("short", async {}), false).await;
        assert_eq!(
            result.unwrap_err().to_string(),
            "task \"short\" ended, but the process needs it"
        );
        let (result, ..) = run(|tasks| tasks.once("short", async {}), true).await;
        result.unwrap();
    }

    #[tokio::test]
    async fn the_end_of_the_process_is_not_a_failure() {
        let (result, metrics, drained) = run(
            |tasks| tasks.keep_until_drain("endless", std::future::pending::<()>()),
            true,
        )
        .await;
        result.unwrap();
        assert!(drained);
        assert!(!metrics.contains("mesh_task_failures_total{"), "{metrics}");
    }

    #[tokio::test]
    async fn a_failure_ends_a_start_that_waits() {
        let (_trigger, drain) = drain::channel();
        let (tasks, supervisor) = supervise(&Registry::empty(), drain);
        tasks.keep("short", async {});
        let result = tokio::time::timeout(LIMIT, supervisor.run(std::future::pending())).await;
        assert!(result.unwrap().is_err());
        drop(tasks);
    }
}
