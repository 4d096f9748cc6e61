//! `cargo xtask bench push`.

use std::process::ExitCode;

use bench::push::run::{Args, run};
use bench::push::table::table;
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    bench::report("push", args.json, run(&args), table)
}
