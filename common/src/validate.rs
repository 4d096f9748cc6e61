//! The command `validate` of istioctl and galley: checks files with the validation rules, without a
//! cluster.

mod args;
mod check;
mod output;

use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::input;
use crate::process::USAGE;

pub use args::{Args, Form};
pub use check::{Finding, Level, Scope};

/// Exit code if an object is rejected, as in Istio 1.30.
pub const REFUSED: u8 = 1;
/// Exit code if an input cannot be read or is not YAML.
pub const UNREADABLE: u8 = 65;

/// Checks every input; returns the exit code: 0, [`REFUSED`], [`UNREADABLE`], or [`USAGE`].
///
/// # Errors
/// If the output cannot be written.
pub fn run(scope: &Scope<'_>, args: &Args) -> Result<u8> {
    let paths = [args.filename.as_slice(), args.files.as_slice()].concat();
    if paths.is_empty() {
        eprintln!("Error: no files to check: want -f FILE, a directory, or - for standard input");
        return Ok(USAGE);
    }
    let mut findings = Vec::new();
    let mut valid = Vec::new();
    for input in input::read(&paths, args.recursive) {
        let found = check::input(&input, scope);
        if found.iter().all(|finding| finding.level == Level::Warning) {
            valid.push(input.name);
        }
        findings.extend(found);
    }
    match args.output {
        Form::Json => {
            let text =
                serde_json::to_string_pretty(&findings).context("cannot encode the output")?;
            writeln!(std::io::stdout(), "{text}").context("cannot write the output")?;
        }
        Form::Text => print(&findings, &valid)?,
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(match worst {
        Some(Level::Unreadable) => UNREADABLE,
        Some(Level::Error) => REFUSED,
        Some(Level::Warning) | None => 0,
    })
}

fn print(findings: &[Finding], valid: &[String]) -> Result<()> {
    let (warnings, errors): (Vec<&Finding>, Vec<&Finding>) = findings
        .iter()
        .partition(|finding| finding.level == Level::Warning);
    let mut answer = std::io::stdout().lock();
    for name in valid {
        writeln!(answer, "{name:?} is valid").context("cannot write the output")?;
    }
    let mut complaints = std::io::stderr().lock();
    for warning in warnings {
        writeln!(complaints, "Warning: {warning}").context("cannot write the warnings")?;
    }
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    complaints
        .write_all(output::errors(&errors).as_bytes())
        .context("cannot write the errors")
}
