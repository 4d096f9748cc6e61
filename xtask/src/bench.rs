//! `cargo xtask bench`.

use std::process::Command;

use anyhow::{Context as _, ensure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Which one.
    #[arg(default_value = "push")]
    name: Name,
    /// Prints JSON instead of a table.
    #[arg(long)]
    json: bool,
    /// Arguments for the benchmark itself, after `--`; see its `--help`.
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Each loads one process.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Name {
    /// galley: from files to sinks.
    Config,
    /// sidecar-injector: a Pod.
    Inject,
    /// pilot-discovery: from a change to sidecars.
    Push,
}

impl Name {
    /// Its program, and the package and program that it loads.
    fn programs(self) -> (&'static str, &'static str) {
        match self {
            Self::Config => ("bench-config", "galley"),
            Self::Inject => ("bench-inject", "sidecar-injector"),
            Self::Push => ("bench-push", "pilot-discovery"),
        }
    }
}

/// Builds in release mode and runs.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (bench, loaded) = args.name.programs();
    // Both in one build: apart they would get other features of shared libraries, and everything
    // would be compiled twice. What cargo says goes to standard error.
    let built = Command::new(&cargo)
        .args(["build", "--release", "--locked"])
        .args(["--package", loaded, "--bin", loaded])
        .args(["--package", "bench", "--bin", bench])
        .status()
        .context("starting cargo")?;
    ensure!(built.success(), "the build failed");
    // <target>/<profile>/xtask
    let own = std::env::current_exe().context("finding the own program")?;
    let target = own.ancestors().nth(2).context("the target directory")?;
    let program = target.join("release").join(bench);
    let mut command = Command::new(&program);
    if args.json {
        command.arg("--json");
    }
    let ran = command
        .args(&args.rest)
        .status()
        .with_context(|| format!("starting {}", program.display()))?;
    ensure!(ran.success(), "the benchmark failed");
    Ok(())
}
