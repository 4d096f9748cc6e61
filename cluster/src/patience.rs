//! Waiting for what other processes do.

use std::time::{Duration, Instant};

use anyhow::{Result, bail};

/// Between two looks.
const LOOK: Duration = Duration::from_millis(50);

/// Looks until something is there; if it does not come, the error says what was seen last.
///
/// # Errors
/// The look's own error, or that `limit` has passed.
pub fn until<T>(
    what: &str,
    limit: Duration,
    mut look: impl FnMut() -> Result<Seen<T>>,
) -> Result<T> {
    let end = Instant::now() + limit;
    loop {
        match look()? {
            Seen::There(value) => return Ok(value),
            Seen::Not(seen) if Instant::now() > end => {
                bail!("{what}: not after {} s: {seen}", limit.as_secs());
            }
            Seen::Not(_) => rest(LOOK),
        }
    }
}

/// What a look saw.
#[derive(Debug)]
pub enum Seen<T> {
    /// What was waited for.
    There(T),
    /// Something else, in words for the one who waits in vain.
    Not(String),
}

impl Seen<()> {
    /// There if `is_there`.
    #[must_use]
    pub fn when(is_there: bool, otherwise: impl Into<String>) -> Self {
        if is_there {
            Self::There(())
        } else {
            Self::Not(otherwise.into())
        }
    }
}

/// Lets time pass.
#[expect(
    clippy::disallowed_methods,
    reason = "commands of the cluster are programs that wait for each other; there is no runtime"
)]
pub fn rest(time: Duration) {
    std::thread::sleep(time);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_error_says_what_was_seen_last() {
        let mut looks = 0;
        let found = until("three", Duration::from_secs(60), || {
            looks += 1;
            Ok(Seen::when(looks == 3, "fewer"))
        });
        assert!(found.is_ok());
        let error = until::<()>("more", Duration::ZERO, || {
            Ok(Seen::Not("nothing".to_owned()))
        });
        assert_eq!(
            error.unwrap_err().to_string(),
            "more: not after 0 s: nothing"
        );
    }
}
