//! `istioctl validate`.

pub mod check;

use std::io::Write as _;

use anyhow::{Context as _, Result};

use crate::args::{Global, Output, Validate};
use crate::{exit, input, output};
use check::{Finding, Level};

/// Checks every input; returns the exit code.
///
/// # Errors
/// When the answer cannot be written.
pub fn run(global: &Global, args: &Validate) -> Result<u8> {
    let paths = [args.filename.as_slice(), args.files.as_slice()].concat();
    if paths.is_empty() {
        eprintln!("Error: name what to check: istioctl validate -f FILE, a directory, or -");
        return Ok(exit::USAGE);
    }
    let scope = check::Scope {
        namespace: global.namespace.as_deref().unwrap_or("default"),
        istio_namespace: &global.istio_namespace,
    };
    let mut findings = Vec::new();
    let mut valid = Vec::new();
    for input in input::read(&paths, args.recursive) {
        let found = check::input(&input, &scope);
        if found.iter().all(|finding| finding.level == Level::Warning) {
            valid.push(input.name);
        }
        findings.extend(found);
    }
    match args.output {
        Output::Json => {
            let text = serde_json::to_string_pretty(&findings).context("encode the answer")?;
            writeln!(std::io::stdout(), "{text}").context("write the answer")?;
        }
        Output::Text => print(&findings, &valid)?,
    }
    let worst = findings.iter().map(|finding| finding.level).max();
    Ok(match worst {
        Some(Level::Unreadable) => exit::UNREADABLE,
        Some(Level::Error) => exit::FAILURE,
        Some(Level::Warning) | None => 0,
    })
}

fn print(findings: &[Finding], valid: &[String]) -> Result<()> {
    let (warnings, errors): (Vec<&Finding>, Vec<&Finding>) = findings
        .iter()
        .partition(|finding| finding.level == Level::Warning);
    let mut answer = std::io::stdout().lock();
    for name in valid {
        writeln!(answer, "{name:?} is valid").context("write the answer")?;
    }
    let mut complaints = std::io::stderr().lock();
    for warning in warnings {
        writeln!(complaints, "Warning: {warning}").context("write the warnings")?;
    }
    let errors: Vec<String> = errors.iter().map(ToString::to_string).collect();
    complaints
        .write_all(output::errors(&errors).as_bytes())
        .context("write the errors")
}
