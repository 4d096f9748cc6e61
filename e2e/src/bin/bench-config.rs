//! `cargo xtask bench config`.

use std::process::ExitCode;

use clap::Parser as _;
use e2e::bench::config::run::{Args, run};
use e2e::bench::config::table::table;

fn main() -> ExitCode {
    let args = Args::parse();
    e2e::bench::report("config", args.json, run(&args), table)
}
