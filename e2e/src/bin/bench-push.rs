//! `cargo xtask bench push`.

use std::process::ExitCode;

use clap::Parser as _;
use e2e::bench::push::run::{Args, run};
use e2e::bench::push::table::table;

fn main() -> ExitCode {
    let args = Args::parse();
    e2e::bench::report("push", args.json, run(&args), table)
}
