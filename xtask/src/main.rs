//! `cargo xtask`: what a contributor runs.

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
    /// Everything that a change must pass: format, lints, tests, goldens through Envoy, the mesh.
    Test(test::Args),
    /// Measures and prints a table; writes JSON under target/bench/.
    Bench(bench::Args),
    /// `cargo mesh`: the mesh on this machine.
    #[command(disable_help_flag = true)]
    Mesh(mesh::Args),
    /// A real Kubernetes on this machine, for tests.
    #[command(disable_help_flag = true)]
    Cluster(cluster::Args),
    /// Writes a container image for each process.
    #[command(disable_help_flag = true)]
    Images(cluster::Args),
    /// Writes the CustomResourceDefinitions into the chart; `--check` only compares.
    Crds(crds::Args),
    /// Feeds made-up bytes to every way in, for a minute each.
    Fuzz(fuzz::Args),
    /// Prints the picture of the crates and checks the direction of crates and modules.
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
