//! Present failures of all tasks, as problems of the source as a whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mesh_common::list_watch::Failure;
use tokio::sync::mpsc;

use galley_engine::problem::{Problem, effect};

/// A task and its failure; `None` if it works.
type Message = (Arc<str>, Option<Problem>);

/// Reports the failures of a task.
#[derive(Debug)]
pub(super) struct Report {
    task: Arc<str>,
    told: Option<Problem>,
    sender: mpsc::Sender<Message>,
}

impl Report {
    /// `task` names its subject in messages: `group/plural`.
    pub(super) fn new(task: impl Into<Arc<str>>, sender: mpsc::Sender<Message>) -> Self {
        Self {
            task: task.into(),
            told: None,
            sender,
        }
    }

    /// Reports a failure or its end; does nothing if it was reported last.
    pub(super) async fn tell(&mut self, failure: Option<&Failure>) {
        let problem = failure.map(|failure| {
            // One problem instead of thirty when the server cannot be reached.
            let about = if failure.is_of_server() {
                ""
            } else {
                &self.task
            };
            Problem::file(&Path::new(about).into(), failure.to_string(), effect::KEPT)
        });
        if problem != self.told {
            // The receiver ends when this task is no longer needed.
            let _ = self.sender.send((self.task.clone(), problem.clone())).await;
            self.told = problem;
        }
    }
}

/// Failures of all tasks.
#[derive(Debug, Default)]
pub(super) struct Troubles(BTreeMap<Arc<str>, Problem>);

impl Troubles {
    pub(super) fn set(&mut self, task: Arc<str>, problem: Option<Problem>) {
        match problem {
            Some(problem) => self.0.insert(task, problem),
            None => self.0.remove(&task),
        };
    }

    /// Every problem once.
    pub(super) fn all(&self) -> Vec<Problem> {
        let all: std::collections::BTreeSet<_> = self.0.values().cloned().collect();
        all.into_iter().collect()
    }
}
