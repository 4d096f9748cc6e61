//! `cargo mesh check`.

use std::process::ExitCode;

use anyhow::Result;

use crate::check::{self, Row};
use crate::platform::World;
use crate::say;
use crate::terminal::print_json;

/// Drives the tasks; exit code 1 when a row did not pass.
///
/// # Errors
/// When a task is not known, or what it needs cannot be prepared.
pub async fn check(world: &World, tasks: &[String], json: bool) -> Result<ExitCode> {
    let results = check::run(world, tasks, |row| {
        if !json {
            print(row);
        }
    })
    .await?;
    if json {
        print_json(&results)?;
    } else {
        let failed = results.rows.iter().filter(|row| !row.passed).count();
        say!(
            "\n{} passed, {failed} failed, in {:.0} s",
            results.rows.len() - failed,
            results.seconds
        );
    }
    Ok(if results.passed {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

fn print(row: &Row) {
    let result = if row.passed { "ok    " } else { "FAILED" };
    say!(
        "{result}  {:<24}  {:<48}  {:>5.1} s  {}",
        row.task,
        row.check,
        row.seconds,
        row.seen
    );
    if !row.passed {
        say!("        {:<24}  wanted: {}", "", row.wanted);
    }
}
