//! `cargo mesh`: builds the workspace as one and becomes the `mesh` that came out.
//!
//! Built alone, `mesh` would get other features of shared libraries than the programs that it
//! starts, and everything would be compiled twice.

use std::{
    convert::Infallible,
    ffi::OsString,
    os::unix::process::CommandExt as _,
    path::PathBuf,
    process::{Command, Stdio},
};

use anyhow::{Context as _, ensure};

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command line of `mesh`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds, then replaces this process.
pub(crate) fn run(args: &Args) -> anyhow::Result<Infallible> {
    let program = build()?;
    let error = Command::new(&program).args(&args.rest).exec();
    Err(error).with_context(|| format!("starting {}", program.display()))
}

/// Builds every program of the workspace; the first time, which is long, with cargo's progress.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("finding the own program")?;
    let program = own.with_file_name("mesh");
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    let mut build = Command::new(cargo);
    build.args(["build", "--workspace", "--bins", "--locked"]);
    if program.is_file() {
        build.arg("--quiet");
    }
    let built = build
        .stdin(Stdio::null())
        .status()
        .context("starting cargo")?;
    ensure!(built.success(), "the build failed");
    Ok(program)
}
