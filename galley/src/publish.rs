//! When a snapshot is published: pure, time is an argument.

use std::time::{Duration, Instant};

/// After the last change of a burst.
pub const QUIESCE: Duration = Duration::from_millis(10);
/// After the last change, when nothing was published for [`CALM`]: most changes come alone.
pub const QUIESCE_ALONE: Duration = Duration::from_millis(2);
/// Without a publication for so long, a change is taken for one that comes alone. If more follow,
/// they wait as a burst, so this costs one small publication at the most.
pub const CALM: Duration = Duration::from_millis(200);
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
    /// When the first and the last change came that are not published.
    changes: Option<(Instant, Instant)>,
    last_published: Option<Instant>,
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
        let is_burst = self
            .last_published
            .is_some_and(|published| first.saturating_duration_since(published) < CALM);
        let wait = if is_burst { QUIESCE } else { QUIESCE_ALONE };
        let (quiet, latest) = (last + wait, first + MAX_WAIT);
        Some(if quiet <= latest {
            (quiet, Reason::Quiet)
        } else {
            (latest, Reason::MaxWait)
        })
    }

    /// Everything so far is published.
    pub fn published(&mut self, now: Instant) {
        self.changes = None;
        self.last_published = Some(now);
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
        let alone = Some((start + QUIESCE_ALONE, Reason::Quiet));
        assert_eq!(debounce.deadline(), alone);
        debounce.published(start + QUIESCE_ALONE);
        assert_eq!(debounce.deadline(), None);
    }

    #[test]
    fn changes_soon_after_a_publication_are_a_burst() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        debounce.changed(start);
        debounce.published(start);
        let soon = start + CALM / 2;
        debounce.changed(soon);
        assert_eq!(debounce.deadline(), Some((soon + QUIESCE, Reason::Quiet)));
        debounce.published(soon);
        let later = soon + CALM;
        debounce.changed(later);
        let alone = Some((later + QUIESCE_ALONE, Reason::Quiet));
        assert_eq!(debounce.deadline(), alone);
    }

    #[test]
    fn changes_without_end_are_published_in_the_end() {
        let start = Instant::now();
        let mut debounce = Debounce::default();
        for step in 0..1000 {
            debounce.changed(start + step * Duration::from_millis(2));
        }
        assert_eq!(
            debounce.deadline(),
            Some((start + MAX_WAIT, Reason::MaxWait))
        );
    }
}
