//! SIGTERM and SIGINT.

use tokio::signal::unix::{SignalKind, signal};

/// Exit status after a second signal, as if the first had killed the process.
const FORCED: i32 = 1;

/// Returns at the first SIGTERM or SIGINT. A second one then ends the process at once.
///
/// # Errors
/// If the handlers cannot be installed.
pub async fn shutdown() -> std::io::Result<()> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let name = tokio::select! {
        _ = terminate.recv() => "SIGTERM",
        _ = interrupt.recv() => "SIGINT",
    };
    tracing::info!(signal = name, "shutting down");
    tokio::spawn(async move {
        tokio::select! {
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
        }
        std::process::exit(FORCED);
    });
    Ok(())
}
