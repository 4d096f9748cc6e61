//! The binary `pilot-agent`.

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

// One thread: the agent is small, and the kernel ties Envoy's life to the thread that started it.
#[tokio::main(flavor = "current_thread")]
async fn main() -> ExitCode {
    let mut cli = match Cli::try_parse_from(args::known(std::env::args())) {
        Ok(cli) => cli,
        Err(error) => {
            let status = if error.use_stderr() { exit::USAGE } else { 0 };
            // Ignores a closed terminal.
            let _ = error.print();
            return ExitCode::from(status);
        }
    };
    // The output of these commands is parsed by programs.
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

/// Waits for the first signal; later ones are ignored, so that they do not cut a drain short.
async fn first(mut term: Signal, mut int: Signal) {
    tokio::select! {
        _ = term.recv() => {}
        _ = int.recv() => {}
    }
}
