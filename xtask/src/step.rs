//! Runs a command as a step: shows its output and collects what was skipped.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// Prefix of the lines in which tests say that they were skipped.
const SKIPPED: &str = "SKIPPED";

/// The result of a step.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    pub(crate) elapsed: Duration,
    /// Lines with what was skipped, and why.
    pub(crate) skipped: Vec<String>,
}

/// Runs a command until it ends.
pub(crate) fn run(name: &'static str, command: &mut Command) -> anyhow::Result<Outcome> {
    println!("\n== {name}");
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("cannot start {command:?}"))?;
    let mut skipped = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            // The line may begin with the name of the test, printed by the test runner.
            if let Some(at) = line.find(SKIPPED) {
                skipped.push(line.get(at..).unwrap_or(&line).to_owned());
            }
        }
    }
    let status = child.wait()?;
    skipped.sort();
    skipped.dedup();
    Ok(Outcome {
        name,
        passed: status.success(),
        elapsed: start.elapsed(),
        skipped,
    })
}
