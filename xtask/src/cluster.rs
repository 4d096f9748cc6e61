//! `cargo xtask cluster` and `cargo xtask images`: builds the workspace and runs its program
//! `cluster`.

use std::{
    convert::Infallible, ffi::OsString, os::unix::process::CommandExt as _, process::Command,
};

use anyhow::Context as _;

#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// The command line of `cluster`.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    rest: Vec<OsString>,
}

/// Builds, then replaces this process; `first` is inserted before the arguments.
pub(crate) fn run(first: Option<&str>, args: &Args) -> anyhow::Result<Infallible> {
    let program = crate::mesh::build()?.with_file_name("cluster");
    let error = Command::new(&program).args(first).args(&args.rest).exec();
    Err(error).with_context(|| format!("cannot start {}", program.display()))
}
