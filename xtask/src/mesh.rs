//! `cargo mesh`: builds the whole workspace and runs its program `mesh`.
//!
//! Built alone, `mesh` would use other features of shared libraries than the programs that it
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
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}

/// Builds all programs of the workspace; the first, long build shows cargo's progress.
pub(crate) fn build() -> anyhow::Result<PathBuf> {
    let own = std::env::current_exe().context("cannot find the path of this program")?;
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
        .context("cannot start cargo")?;
    ensure!(built.success(), "the build failed");
    Ok(program)
}
