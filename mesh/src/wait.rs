//! Waiting for what takes its time.

use std::time::Duration;

use anyhow::Result;
use tokio::time::Instant;

/// Calls `probe` until it gives a value, with short pauses that grow to 100 ms.
///
/// # Errors
/// After `limit`; the text says `what` was waited for and the last reason.
pub async fn wait_until<T, F>(
    what: &str,
    limit: Duration,
    mut probe: impl FnMut() -> F,
) -> Result<T>
where
    F: Future<Output = Result<T>>,
{
    let deadline = Instant::now() + limit;
    let mut pause = Duration::from_millis(2);
    let mut last = anyhow::anyhow!("the first try did not end");
    loop {
        match tokio::time::timeout_at(deadline, probe()).await {
            Ok(Ok(value)) => return Ok(value),
            Ok(Err(error)) => last = error,
            Err(_) => {}
        }
        if Instant::now() >= deadline {
            return Err(last.context(format!("{what}: not within {limit:?}")));
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_millis(100));
    }
}
