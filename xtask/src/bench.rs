//! `cargo xtask bench`.

use std::process::Command;

use anyhow::{Context as _, ensure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which one: push.
    #[arg(default_value = "push", value_parser = ["push"])]
    name: String,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Arguments for the benchmark itself, after `--`; see its `--help`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Builds in release mode and runs.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    // The server must be there before the client starts it.
    let built = Command::new(&cargo)
        .args(["build", "--release", "--locked"])
        .args(["--package", "pilot-discovery", "--bin", "pilot-discovery"])
        .args(["--package", "e2e", "--bin", &format!("bench-{}", args.name)])
        .status()
        .context("starting cargo")?;
    ensure!(built.success(), "the build failed");
    let mut command = Command::new(&cargo);
    command
        .args(["run", "--quiet", "--release", "--locked"])
        .args([
            "--package",
            "e2e",
            "--bin",
            &format!("bench-{}", args.name),
            "--",
        ]);
    if args.json {
        command.arg("--json");
    }
    let ran = command
        .args(&args.rest)
        .status()
        .context("starting the benchmark")?;
    ensure!(ran.success(), "the benchmark failed");
    Ok(())
}
