//! What does not work at present, of all tasks, as problems of the source as a whole.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;

use mesh_common::list_watch::Failure;
use tokio::sync::mpsc;

use galley_engine::problem::{Problem, effect};

/// A task, and what its trouble is; `None` when there is none any more.
type Message = (Arc<str>, Option<Problem>);

/// A task's way to tell.
#[derive(Debug)]
pub(super) struct Report {
    task: Arc<str>,
    told: Option<Problem>,
    sender: mpsc::Sender<Message>,
}

impl Report {
    /// `task` is what it is about, for people: `group/plural`.
    pub(super) fn new(task: impl Into<Arc<str>>, sender: mpsc::Sender<Message>) -> Self {
        Self {
            task: task.into(),
            told: None,
            sender,
        }
    }

    /// Tells of a failure, or that it is over; nothing when that is what was told last.
    pub(super) async fn tell(&mut self, failure: Option<&Failure>) {
        let problem = failure.map(|failure| {
            // One problem, not thirty, when nothing can be reached.
            let about = if failure.is_of_server() {
                ""
            } else {
                &self.task
            };
            Problem::file(&Path::new(about).into(), failure.to_string(), effect::KEPT)
        });
        if problem != self.told {
            // Whoever listens ends when this task is not needed any more.
            let _ = self.sender.send((self.task.clone(), problem.clone())).await;
            self.told = problem;
        }
    }
}

/// All of them.
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
