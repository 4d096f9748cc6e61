//! Command lines and standard output, as every program of this kind has them.

use std::fmt::Arguments;
use std::io::Write as _;
use std::process::ExitCode;

use anyhow::{Context as _, Result};
use clap::Parser;

/// Exit code for a command line that is not understood.
const USAGE: u8 = 64;

/// Reads the command line; otherwise prints the help or the error and returns the exit code.
///
/// # Errors
/// When there is nothing to run; the error is the exit code.
pub fn parse<T: Parser>() -> Result<T, ExitCode> {
    T::try_parse().map_err(|error| {
        let help = !error.use_stderr();
        // Nothing can be done about a closed terminal.
        let _ = error.print();
        if help {
            ExitCode::SUCCESS
        } else {
            ExitCode::from(USAGE)
        }
    })
}

/// Writes a line to standard output, which may be a pipe whose reader has gone, as in
/// `cargo mesh status | head -1`: the command still does its work.
pub fn line(text: Arguments<'_>) {
    let _ = writeln!(std::io::stdout(), "{text}");
}

/// `println!` that does not panic when the reader has gone.
#[macro_export]
macro_rules! say {
    ($($argument:tt)*) => {
        $crate::terminal::line(format_args!($($argument)*))
    };
}

/// Prints a value as JSON.
///
/// # Errors
/// When it cannot be encoded.
pub fn print_json(value: &impl serde::Serialize) -> Result<()> {
    line(format_args!(
        "{}",
        serde_json::to_string_pretty(value).context("encode the answer")?
    ));
    Ok(())
}
