//! When a snapshot is published: pure, time is an argument.

use std::time::{Duration, Instant};

/// After the last change.
pub const QUIESCE: Duration = Duration::from_millis(10);
/// After the first change, however many follow.
pub const MAX_WAIT: Duration = Duration::from_secs(1);

/// Why a deadline came.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reason {
    /// Nothing more happened.
    Quiet,
    /// Waited long enough.
    MaxWait,
}

/// Waits for a burst of changes to end.
#[derive(Debug, Default)]
pub struct Debounce {
    changes: Option<(Instant, Instant)>,
}

impl Debounce {
    /// Something changed.
    pub fn changed(&mut self, now: Instant) {
        let (first, _) = *self.changes.get_or_insert((now, now));
        self.changes = Some((first, now));
    }

    /// When to publish, and why then; `None` when nothing waits.
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        let (first, last) = self.changes?;
        let (quiet, latest) = (last + QUIESCE, first + MAX_WAIT);
        Some(if quiet <= latest {
            (quiet, Reason::Quiet)
        } else {
            (latest, Reason::MaxWait)
        })
    }

    /// Everything so far is published.
    pub fn published(&mut self) {
        self.changes = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_change_waits_for_quiet() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        assert_eq!(debounce.deadline(), None);
        debounce.changed(start);
        assert_eq!(debounce.deadline(), Some((start + QUIESCE, Reason::Quiet)));
        debounce.published();
        assert_eq!(debounce.deadline(), None);
    }

    #[test]
    fn changes_without_end_are_published_in_the_end() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        for step in 0..500 {
            debounce.changed(start + step * Duration::from_millis(5));
        }
        assert_eq!(
            debounce.deadline(),
            Some((start + MAX_WAIT, Reason::MaxWait))
        );
    }
}
