//! Decides when a snapshot is published: pure, time is an argument.

use std::time::{Duration, Instant};

use mesh_core::debounce::{Debounce, Reason};

/// Delay after the last change of a burst.
pub const QUIESCE: Duration = Duration::from_millis(10);
/// Delay after a change if nothing was published for [`CALM`]: most changes come alone.
pub const QUIESCE_ALONE: Duration = Duration::from_millis(2);
/// After this time without a publication, a change is expected to come alone. If others follow,
/// they wait as a burst, so that this costs at most one small publication.
pub const CALM: Duration = Duration::from_millis(200);
/// Maximum delay after the first change.
pub const MAX_WAIT: Duration = Duration::from_secs(1);

/// Waits for a burst of changes to end.
#[derive(Debug)]
pub struct Pace {
    debounce: Debounce,
    last_published: Option<Instant>,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            debounce: Debounce::new(MAX_WAIT),
            last_published: None,
        }
    }
}

impl Pace {
    /// Records a change.
    pub fn changed(&mut self, now: Instant) {
        let first = self.debounce.first().unwrap_or(now);
        let is_burst = self
            .last_published
            .is_some_and(|published| first.saturating_duration_since(published) < CALM);
        let quiet = if is_burst { QUIESCE } else { QUIESCE_ALONE };
        self.debounce.changed(now, quiet);
    }

    /// When to publish, and for which reason; `None` if nothing waits.
    pub fn deadline(&self) -> Option<(Instant, Reason)> {
        self.debounce.deadline()
    }

    /// Everything so far has been published.
    pub fn published(&mut self, now: Instant) {
        self.debounce.clear();
        self.last_published = Some(now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_single_change_waits_for_quiet() {
        let start = Instant::now();
        let mut pace = Pace::default();
        assert_eq!(pace.deadline(), None);
        pace.changed(start);
        let alone = Some((start + QUIESCE_ALONE, Reason::Quiet));
        assert_eq!(pace.deadline(), alone);
        pace.published(start + QUIESCE_ALONE);
        assert_eq!(pace.deadline(), None);
    }

    #[test]
    fn changes_soon_after_a_publication_are_a_burst() {
        let start = Instant::now();
        let mut pace = Pace::default();
        pace.changed(start);
        pace.published(start);
        let soon = start + CALM / 2;
        pace.changed(soon);
        assert_eq!(pace.deadline(), Some((soon + QUIESCE, Reason::Quiet)));
        pace.published(soon);
        let later = soon + CALM;
        pace.changed(later);
        let alone = Some((later + QUIESCE_ALONE, Reason::Quiet));
        assert_eq!(pace.deadline(), alone);
    }

    #[test]
    fn changes_without_end_are_published_in_the_end() {
        let start = Instant::now();
        let mut pace = Pace::default();
        for step in 0..1000 {
            pace.changed(start + step * Duration::from_millis(2));
        }
        assert_eq!(pace.deadline(), Some((start + MAX_WAIT, Reason::MaxWait)));
    }
}
