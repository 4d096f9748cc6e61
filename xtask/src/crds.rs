//! `cargo xtask crds`: the CustomResourceDefinitions of the chart, from the descriptors.

use std::process::Command;

use anyhow::{Context as _, ensure};

/// Where the chart has them.
const FOLDER: &str = "helm/istio-init/files";

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Writes nothing; fails when a file is not what it would be.
    #[arg(long)]
    check: bool,
}

/// Has the definitions written or checked by the crate that makes them.
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
        .context("running cargo")?;
    ensure!(status.success(), "the definitions are not up to date");
    Ok(())
}
