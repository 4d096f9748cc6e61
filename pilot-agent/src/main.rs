//! Envoy bootstrap and life, workload certificates, probes, traffic capture.

use std::process::ExitCode;

use clap::Parser as _;
use pilot_agent::{
    Cli,
    args::{self, Action},
    env::Env,
    exit, proxy, run,
};
use tokio::signal::unix::{Signal, SignalKind, signal};

mesh_common::allocator!();

// One thread: the agent is small, and Envoy's tie to the agent's life is one to the thread that started it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut cli = match Cli::try_parse_from(args::known(std::env::args())) {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { exit::USAGE } else { 0 };
            // Nobody is left to tell when the terminal is gone.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    // The output of these is read by programs.
    if !matches!(cli.command, Action::Proxy(_)) {
        cli.log.target = vec!["stderr".to_owned()];
    }
    match start(cli).await {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("pilot-agent: {error:#}");
            ExitCode::from(exit::status(&error))
        }
    }
}

async fn start(cli: Cli) -> anyhow::Result<()> {
    let log = mesh_common::log::init(&cli.log)?;
    let surroundings = proxy::Surroundings {
        launcher: Some(std::env::current_exe()?),
        log_as_json: cli.log.as_json,
        ..proxy::Surroundings::default()
    };
    let (term, int) = (
        signal(SignalKind::terminate())?,
        signal(SignalKind::interrupt())?,
    );
    let result = run(cli, Env::from_process(), surroundings, first(term, int)).await;
    log.flush();
    result
}

/// The first signal; later ones change nothing, so that a drain is not cut short.
async fn first(mut term: Signal, mut int: Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
