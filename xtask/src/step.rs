//! A command that is run as a step, its output shown and searched for what was skipped.

use std::{
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
    time::{Duration, Instant},
};

use anyhow::Context as _;

/// How tests say that they did not run: a line that starts with this.
const SKIPPED: &str = "SKIPPED";

/// What came of a step.
#[derive(Debug)]
pub(crate) struct Outcome {
    pub(crate) name: &'static str,
    pub(crate) passed: bool,
    pub(crate) elapsed: Duration,
    /// Lines that say what was skipped and why.
    pub(crate) skipped: Vec<String>,
}

/// Runs a command to its end.
pub(crate) fn run(name: &'static str, command: &mut Command) -> anyhow::Result<Outcome> {
    println!("\n== {name}");
    let start = Instant::now();
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .spawn()
        .with_context(|| format!("starting {command:?}"))?;
    let mut skipped = Vec::new();
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).lines() {
            let line = line?;
            println!("{line}");
            // The test runner may have begun the line with the name of the test.
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
