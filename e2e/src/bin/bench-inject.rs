//! `cargo xtask bench inject`.

use std::process::ExitCode;

use clap::Parser as _;
use e2e::bench::inject::table::table;
use e2e::bench::inject::{Args, run};

fn main() -> ExitCode {
    let args = Args::parse();
    e2e::bench::report("inject", args.json, run(&args), table)
}
