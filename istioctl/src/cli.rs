//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use mesh_common::validate;

use crate::args::{Analyze, Global, KubeInject};
use crate::{analyze, exit, kube_inject};

#[derive(Debug, Parser)]
#[command(
    name = "istioctl",
    version,
    about = "Checks mesh configuration and injects the proxy"
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find problems between objects in a cluster, in files, or in files applied to a cluster
    Analyze(Box<Analyze>),
    /// Inject the proxy into manifests, as the webhook would when the Pods are created
    KubeInject(KubeInject),
    /// Validate configuration files with galley's rules, without a cluster
    #[command(visible_alias = "v")]
    Validate(validate::Args),
}

/// Runs the command line; returns 0 or one of the exit codes in [`exit`].
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // Ignores a closed terminal.
            let _printed = error.print();
            return ExitCode::from(if usage { exit::USAGE } else { 0 });
        }
    };
    let done = match cli.command {
        Command::Analyze(args) => analyze::run(&cli.global, &args),
        Command::KubeInject(args) => kube_inject::run(&cli.global, &args),
        Command::Validate(args) => {
            let scope = validate::Scope {
                namespace: cli.global.namespace.as_deref().unwrap_or("default"),
                istio_namespace: &cli.global.istio_namespace,
            };
            validate::run(&scope, &args)
        }
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("Error: {error:#}");
            ExitCode::from(exit::FAILURE)
        }
    }
}
