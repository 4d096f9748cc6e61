//! What every `main` does: parse, log, run until a signal, drain, exit.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use crate::args::LogArgs;
use crate::{drain, log, signal};

/// Exit status for a wrong command line (`EX_USAGE`).
pub const USAGE: u8 = 64;

/// More worker threads only cost memory: the processes wait for most of their time.
const MAX_WORKERS: usize = 4;

/// Parses the command line. `Err` is the status to leave with: 64 after a usage error,
/// 0 after `--help` or `--version`; the text has been printed.
///
/// # Errors
/// As above.
pub fn parse<A: clap::Parser>() -> Result<A, ExitCode> {
    A::try_parse().map_err(|error| {
        // Nothing can be told to anybody when standard error is closed.
        let _ = error.print();
        ExitCode::from(if error.use_stderr() { USAGE } else { 0 })
    })
}

/// A multi-thread runtime with `workers` threads, by default one per core and at most four.
///
/// # Errors
/// If threads or the event queue cannot be made.
pub fn runtime(workers: Option<NonZeroUsize>) -> std::io::Result<tokio::runtime::Runtime> {
    let cores = std::thread::available_parallelism().map_or(1, NonZeroUsize::get);
    let workers = workers.map_or_else(|| cores.min(MAX_WORKERS), NonZeroUsize::get);
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(workers)
        .max_blocking_threads(16)
        .thread_keep_alive(Duration::from_secs(5))
        .enable_all()
        .build()
}

/// Makes aws-lc-rs the cryptography of all TLS in this process. May be called more than once.
pub fn install_crypto() {
    // An error says that a provider is installed already: the same one, as there is no other.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
}

/// Runs a process: installs cryptography, logging and signal handlers, then `run`, until it ends
/// by itself or a signal comes. After the signal `run` and all holders of the drain watch have
/// `deadline` to finish. Status 0, or 1 if `run` failed; the error goes to the log.
pub fn run<F, Fut>(log: &LogArgs, deadline: Duration, run: F) -> ExitCode
where
    F: FnOnce(drain::Watch) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    install_crypto();
    let handle = match log::init(log) {
        Ok(handle) => handle,
        Err(error) => {
            eprintln!("error: {error:#}");
            return ExitCode::FAILURE;
        }
    };
    let result = runtime(None)
        .map_err(anyhow::Error::from)
        .and_then(|runtime| {
            let result = runtime.block_on(Box::pin(until_signal(deadline, run)));
            // Blocking work that is still running must not hold the exit.
            runtime.shutdown_timeout(Duration::from_millis(100));
            result
        });
    let code = match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "exiting");
            ExitCode::FAILURE
        }
    };
    handle.flush();
    code
}

async fn until_signal<F, Fut>(deadline: Duration, run: F) -> anyhow::Result<()>
where
    F: FnOnce(drain::Watch) -> Fut,
    Fut: Future<Output = anyhow::Result<()>>,
{
    let (trigger, watch) = drain::channel();
    let mut run = Box::pin(run(watch));
    let (result, end) = tokio::select! {
        result = &mut run => (result, Instant::now() + deadline),
        signaled = signal::shutdown() => {
            signaled?;
            trigger.signal();
            let end = Instant::now() + deadline;
            let result = tokio::time::timeout(deadline, &mut run).await.unwrap_or_else(|_| {
                tracing::warn!(deadline_ms = deadline.as_millis(), "still busy at the deadline");
                Ok(())
            });
            (result, end)
        }
    };
    drop(run);
    trigger
        .drain(end.saturating_duration_since(Instant::now()))
        .await;
    result
}
