//! The galley process.

use std::process::ExitCode;
use std::time::{Duration, SystemTime};

use galley::args::{Args, Command};
use galley::{probe, run};
use mesh_common::{process, validate};

mesh_common::allocator!();

/// Time for streams to end after a signal.
const DRAIN: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let args: Args = match process::parse() {
        Ok(args) => args,
        Err(code) => return code,
    };
    match args.command {
        Command::Server(server) => process::run(&args.log, DRAIN, |drain| run::run(*server, drain)),
        Command::Probe(probe) => match probe::check(&probe, SystemTime::now()) {
            Ok(()) => {
                println!("OK");
                ExitCode::SUCCESS
            }
            Err(error) => {
                eprintln!("{error}");
                ExitCode::FAILURE
            }
        },
        Command::Validate(args) => {
            let scope = validate::Scope {
                namespace: &args.namespace,
                istio_namespace: &args.istio_namespace,
            };
            match validate::run(&scope, &args.inputs) {
                Ok(code) => ExitCode::from(code),
                Err(error) => {
                    eprintln!("Error: {error:#}");
                    ExitCode::FAILURE
                }
            }
        }
        Command::Version(version) => {
            println!("{}", version.render());
            ExitCode::SUCCESS
        }
    }
}
