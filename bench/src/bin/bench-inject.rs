//! `cargo xtask bench inject`.

use std::process::ExitCode;

use bench::inject::table::table;
use bench::inject::{Args, run};
use clap::Parser as _;

fn main() -> ExitCode {
    let args = Args::parse();
    bench::report("inject", args.json, run(&args), table)
}
