//! Decides when a burst of changes is over. Time is an argument.

use std::time::{Duration, Instant};

/// Why a wait ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// There were no more changes.
    Quiet,
    /// The maximum delay was reached.
    MaxWait,
}

#[derive(Debug, Clone, Copy)]
struct Burst {
    first: Instant,
    last: Instant,
    quiet: Duration,
}

/// Waits until there are no more changes, at most for `max` after the first one.
#[derive(Debug, Clone, Copy)]
pub struct Debounce {
    max: Duration,
    burst: Option<Burst>,
}

impl Debounce {
    /// `max`: maximum delay after the first change.
    #[must_use]
    pub fn new(max: Duration) -> Self {
        Self { max, burst: None }
    }

    /// Records a change. The wait ends when `quiet` has passed without another one.
    pub fn changed(&mut self, now: Instant, quiet: Duration) {
        let first = self.first().unwrap_or(now);
        self.burst = Some(Burst {
            first,
            last: now,
            quiet,
        });
    }

    /// Time of the first waiting change.
    #[must_use]
    pub fn first(&self) -> Option<Instant> {
        self.burst.map(|burst| burst.first)
    }

    /// When the wait ends, and for which reason; `None` if nothing waits.
    #[must_use]
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        let Burst { first, last, quiet } = self.burst?;
        let (calm, latest) = (last + quiet, first + self.max);
        Some(if calm <= latest {
            (calm, Reason::Quiet)
        } else {
            (latest, Reason::MaxWait)
        })
    }

    /// The waiting changes have been processed.
    pub fn clear(&mut self) {
        self.burst = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Duration = Duration::from_millis(10);
    const MAX: Duration = Duration::from_secs(1);

    #[test]
    fn changes_wait_for_quiet_but_not_without_end() {
        let start = Instant::now();
        let mut debounce = Debounce::new(MAX);
        assert_eq!(debounce.deadline(), None);
        debounce.changed(start, QUIET);
        assert_eq!(debounce.deadline(), Some((start + QUIET, Reason::Quiet)));
        for step in 1..200 {
            debounce.changed(start + step * QUIET / 2, QUIET);
        }
        assert_eq!(debounce.first(), Some(start));
        assert_eq!(debounce.deadline(), Some((start + MAX, Reason::MaxWait)));
        debounce.clear();
        assert_eq!(debounce.deadline(), None);
    }

    #[test]
    fn the_last_change_says_how_long_it_must_be_quiet() {
        let start = Instant::now();
        let mut debounce = Debounce::new(MAX);
        debounce.changed(start, QUIET);
        debounce.changed(start, QUIET / 5);
        assert_eq!(
            debounce.deadline(),
            Some((start + QUIET / 5, Reason::Quiet))
        );
    }
}
