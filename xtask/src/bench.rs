//! `cargo xtask bench`.

use std::process::Command;

use anyhow::{Context as _, ensure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Benchmark to run
    #[arg(default_value = "push")]
    name: Name,
    /// Print JSON instead of a table
    #[arg(long)]
    json: bool,
    /// Arguments for the benchmark after `--`; see its `--help`
    #[arg(last = true)]
    rest: Vec<String>,
}

/// Benchmarks, each of which loads one process.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
enum Name {
    /// galley: from files to sinks
    Config,
    /// sidecar-injector: injection of Pods
    Inject,
    /// pilot-discovery: from changes to sidecars
    Push,
}

impl Name {
    /// The program of the benchmark, and the package and program under load.
    fn programs(self) -> (&'static str, &'static str) {
        match self {
            Self::Config => ("bench-config", "galley"),
            Self::Inject => ("bench-inject", "sidecar-injector"),
            Self::Push => ("bench-push", "pilot-discovery"),
        }
    }
}

/// Builds in release mode and runs the benchmark.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let (bench, loaded) = args.name.programs();
    // Built together: separate builds would use different features of shared libraries and compile
    // everything twice. The messages of cargo go to standard error.
    let built = Command::new(&cargo)
        .args(["build", "--release", "--locked"])
        .args(["--package", loaded, "--bin", loaded])
        .args(["--package", "bench", "--bin", bench])
        .status()
        .context("cannot start cargo")?;
    ensure!(built.success(), "the build failed");
    // <target>/<profile>/xtask
    let own = std::env::current_exe().context("cannot find the path of this program")?;
    let target = own
        .ancestors()
        .nth(2)
        .context("cannot find the target directory")?;
    let program = target.join("release").join(bench);
    let mut command = Command::new(&program);
    if args.json {
        command.arg("--json");
    }
    let ran = command
        .args(&args.rest)
        .status()
        .with_context(|| format!("cannot start {}", program.display()))?;
    ensure!(ran.success(), "the benchmark failed");
    Ok(())
}
