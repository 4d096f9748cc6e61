//! `cargo xtask bench config`.

use std::process::ExitCode;

use bench::config::run::{Args, run};
use bench::config::table::table;
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    bench::report("config", args.json, run(&args), table)
}
