//! `cargo xtask`: tasks for contributors.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

mod bench;
mod cluster;
mod crds;
mod fuzz;
mod layers;
mod mesh;
mod step;
mod test;

#[derive(Debug, Parser)]
#[command(
    name = "cargo xtask",
    about = "Tests, checks and benchmarks of this repository"
)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run all checks of a change: format, lints, tests, goldens through Envoy, the mesh
    Test(test::Args),
    /// Run a benchmark and print a table; JSON goes to target/bench/
    Bench(bench::Args),
    /// `cargo mesh`: the mesh on this machine
    #[command(disable_help_flag = true)]
    Mesh(mesh::Args),
    /// Start a real Kubernetes on this machine, for tests
    #[command(disable_help_flag = true)]
    Cluster(cluster::Args),
    /// Write a container image for each process
    #[command(disable_help_flag = true)]
    Images(cluster::Args),
    /// Write the CustomResourceDefinitions into the chart; `--check` only compares
    Crds(crds::Args),
    /// Fuzz every entry point for untrusted bytes, for a minute each
    Fuzz(fuzz::Args),
    /// Print the picture of the crates; check the dependencies between crates and between modules
    Layers,
}

fn main() -> ExitCode {
    let result = match Cli::parse().command {
        Command::Test(args) => test::run(&args),
        Command::Bench(args) => bench::run(&args),
        Command::Mesh(args) => mesh::run(&args).map(|never| match never {}),
        Command::Cluster(args) => cluster::run(None, &args).map(|never| match never {}),
        Command::Images(args) => cluster::run(Some("images"), &args).map(|never| match never {}),
        Command::Crds(args) => crds::run(&args),
        Command::Fuzz(args) => fuzz::run(&args),
        Command::Layers => layers::check(),
    };
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}
