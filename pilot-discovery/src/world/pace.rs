//! Decides when changes become a snapshot (debouncing).

use std::time::{Duration, Instant};

/// Debounce times.
#[derive(Clone, Copy, Debug)]
pub struct Pace {
    /// Quiet time before changes are published (`PILOT_DEBOUNCE_AFTER`).
    pub after: Duration,
    /// Maximum delay while changes keep arriving (`PILOT_DEBOUNCE_MAX`).
    pub max: Duration,
    /// Quiet time before changes of endpoints only are published.
    pub endpoints: Duration,
}

impl Default for Pace {
    fn default() -> Self {
        Self {
            after: Duration::from_millis(10),
            max: Duration::from_secs(1),
            endpoints: Duration::from_millis(2),
        }
    }
}

/// Decides when to publish. Time is an argument.
#[derive(Debug)]
pub struct Debounce {
    pace: Pace,
    first: Option<Instant>,
    last: Instant,
    endpoints_only: bool,
}

impl Debounce {
    pub fn new(pace: Pace, now: Instant) -> Self {
        Self {
            pace,
            first: None,
            last: now,
            endpoints_only: true,
        }
    }

    /// Records a change.
    pub fn note(&mut self, now: Instant, endpoints_only: bool) {
        if self.first.is_none() {
            self.first = Some(now);
            self.endpoints_only = true;
        }
        self.endpoints_only &= endpoints_only;
        self.last = now;
    }

    /// Time until publishing is due; zero if it is due now, `None` if there are no changes.
    pub fn wait(&self, now: Instant) -> Option<Duration> {
        let first = self.first?;
        let quiet = if self.endpoints_only {
            self.pace.endpoints
        } else {
            self.pace.after
        };
        let due = (self.last + quiet).min(first + self.pace.max);
        Some(due.saturating_duration_since(now))
    }

    /// When the first unpublished change arrived.
    pub fn first(&self) -> Option<Instant> {
        self.first
    }

    /// Records that the changes were published.
    pub fn clear(&mut self) {
        self.first = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn changes_wait_for_quiet_but_not_for_ever() {
        let start = Instant::now();
        let at = |ms| start + Duration::from_millis(ms);
        let mut debounce = Debounce::new(Pace::default(), start);
        assert_eq!(debounce.wait(start), None);
        debounce.note(start, false);
        assert_eq!(debounce.wait(start), Some(Duration::from_millis(10)));
        for ms in (0..995).step_by(5) {
            debounce.note(at(ms), false);
            assert!(debounce.wait(at(ms)).unwrap() > Duration::ZERO);
        }
        debounce.note(at(1000), false);
        assert_eq!(debounce.wait(at(1000)), Some(Duration::ZERO));
        debounce.clear();
        debounce.note(at(2000), true);
        assert_eq!(debounce.wait(at(2000)), Some(Duration::from_millis(2)));
        debounce.note(at(2000), false);
        assert_eq!(debounce.wait(at(2000)), Some(Duration::from_millis(10)));
    }
}
