//! Delays the first synchronisation until a task has read everything, or has been refused for long
//! enough.

use std::time::{Duration, Instant};

use super::Hold;

/// A task's part in the delay.
#[derive(Debug)]
pub(super) struct Patience {
    hold: Option<Hold>,
    limit: Duration,
    /// Time of the first refusal.
    since: Option<Instant>,
}

impl Patience {
    pub(super) fn new(hold: Hold, limit: Duration) -> Self {
        Self {
            hold: Some(hold),
            limit,
            since: None,
        }
    }

    /// Everything has been read.
    pub(super) fn done(&mut self) {
        self.hold = None;
    }

    /// The server refuses the request. Returns true when this has just happened for long enough.
    pub(super) fn refused(&mut self, now: Instant) -> bool {
        let since = *self.since.get_or_insert(now);
        now >= since + self.limit && self.hold.take().is_some()
    }

    /// When the delay ends, if it is still waited for.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.hold.as_ref()?;
        Some(self.since? + self.limit)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_enough_after_a_while_and_only_once() {
        let (hold, mut held) = tokio::sync::mpsc::channel(1);
        let limit = Duration::from_secs(30);
        let mut patience = Patience::new(hold, limit);
        let start = Instant::now();
        assert_eq!(patience.deadline(), None);
        assert!(!patience.refused(start));
        assert!(!patience.refused(start + limit / 2));
        assert_eq!(patience.deadline(), Some(start + limit));
        assert!(
            held.try_recv()
                .is_err_and(|error| error == tokio::sync::mpsc::error::TryRecvError::Empty)
        );
        assert!(patience.refused(start + limit));
        assert!(
            held.try_recv()
                .is_err_and(|error| error == tokio::sync::mpsc::error::TryRecvError::Disconnected)
        );
        assert!(!patience.refused(start + 2 * limit));
        assert_eq!(patience.deadline(), None);
    }
}
