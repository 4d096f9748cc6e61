//! `cargo mesh check`: every task of the samples, driven with real requests through a mesh that
//! is up.
//!
//! A task applies its files, waits until the proxies that it uses hold them, sends requests and
//! writes one row for each thing that must be seen. Afterwards every object is again what it was.

pub mod stage;
mod tasks;
pub mod tls;

use std::time::Instant;

use anyhow::{Result, ensure};
use serde::Serialize;

use crate::platform::World;
use stage::Stage;

/// One thing that must be seen.
#[derive(Clone, Debug, Serialize)]
pub struct Row {
    /// Task, as its folder below `samples/tasks` is named.
    pub task: &'static str,
    /// What is looked at.
    pub check: String,
    /// What must be seen.
    pub wanted: String,
    /// What was seen, or the error.
    pub seen: String,
    /// Whether they agree.
    pub passed: bool,
    /// How long it took, with what had to be applied for it.
    pub seconds: f64,
}

/// All rows.
#[derive(Clone, Debug, Serialize)]
pub struct Results {
    /// Whether every row passed.
    pub passed: bool,
    /// In the order in which they were driven.
    pub rows: Vec<Row>,
    /// How long everything took.
    pub seconds: f64,
}

/// Names of all tasks, in the order in which they are driven.
#[must_use]
pub fn names() -> Vec<&'static str> {
    tasks::ALL.iter().map(|task| task.name).collect()
}

/// Drives the tasks `wanted`, all when it is empty, and hands over each row as it comes.
///
/// # Errors
/// When a name is not that of a task, or the mesh does not answer any more.
pub async fn run(
    world: &World,
    wanted: &[String],
    mut report: impl FnMut(&Row),
) -> Result<Results> {
    for name in wanted {
        ensure!(
            names().contains(&name.as_str()),
            "there is no task {name:?}; there are {}",
            names().join(", ")
        );
    }
    let begun = Instant::now();
    let mut rows = Vec::new();
    for task in tasks::ALL {
        if !wanted.is_empty() && !wanted.iter().any(|name| name == task.name) {
            continue;
        }
        let mut stage = Stage::new(world.clone(), task.name, &mut report);
        if let Err(error) = (task.run)(&mut stage).await {
            stage.row("set up", "the task can be driven", Err(error));
        }
        rows.extend(stage.end().await?);
    }
    Ok(Results {
        passed: rows.iter().all(|row| row.passed),
        rows,
        seconds: begun.elapsed().as_secs_f64(),
    })
}
