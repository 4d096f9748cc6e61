//! `cargo xtask crds`: the CustomResourceDefinitions of the chart, from the descriptors.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// Directory of the definitions in the chart.
const FOLDER: &str = "helm/istio-init/files";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Write nothing, and fail if a file is outdated
    #[arg(long)]
    check: bool,
}

/// Lets the crate that generates the definitions write or check them.
pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut command = Command::new(cargo);
    command.args(["run", "--quiet", "--locked", "--package", "istio-rules"]);
    command.args(["--example", "crds", "--"]);
    if args.check {
        command.arg("--check");
    }
    let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/..");
    let status = command
        .arg(FOLDER)
        .current_dir(folder)
        .status()
        .context("cannot run cargo")?;
    ensure!(
        status.success(),
        "the definitions are not up to date: cargo xtask crds writes them"
    );
    Ok(())
}
