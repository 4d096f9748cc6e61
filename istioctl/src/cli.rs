//! The command line.

use std::process::ExitCode;

use clap::{Parser, Subcommand};

use mesh_common::validate;

use crate::args::{Analyze, Global, KubeInject};
use crate::{analyze, exit, kube_inject};

#[derive(Debug, Parser)]
#[command(name = "istioctl", version, about = "What a person asks of the mesh")]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Find what is wrong between objects, of a cluster, of files, or of files laid over a cluster
    Analyze(Box<Analyze>),
    /// Put the proxy into the Pods of manifests, as the webhook would when they are created
    KubeInject(KubeInject),
    /// Check configuration, without a cluster, by the rules that galley checks it by
    #[command(visible_alias = "v")]
    Validate(validate::Args),
}

/// Runs the command line: 0 when all is well, else a code of [`exit`].
#[must_use]
pub fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let usage = error.use_stderr();
            // Nothing can be told to anybody when the terminal is gone.
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
