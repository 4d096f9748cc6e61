//! Token buckets for connections and for log lines. Time is an argument.

use std::time::{Duration, Instant};

/// Allows a burst of `burst`, then one per `interval`.
#[derive(Debug, Clone)]
pub struct TokenBucket {
    interval: Duration,
    burst: u32,
    tokens: u32,
    refilled: Option<Instant>,
}

impl TokenBucket {
    /// A full bucket. A zero `interval` or `burst` means no limit.
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self {
            interval,
            burst,
            tokens: burst,
            refilled: None,
        }
    }

    /// Takes a token if there is one at `now`.
    pub fn take(&mut self, now: Instant) -> bool {
        if self.interval.is_zero() || self.burst == 0 {
            return true;
        }
        let since = *self.refilled.get_or_insert(now);
        let elapsed = now.saturating_duration_since(since);
        let gained = elapsed.as_nanos() / self.interval.as_nanos();
        let gained = u32::try_from(gained).unwrap_or(u32::MAX);
        if gained > 0 {
            self.tokens = self.tokens.saturating_add(gained).min(self.burst);
            // A full bucket does not save up time.
            let whole = self.interval.checked_mul(gained);
            let full = self.tokens == self.burst;
            self.refilled = Some(whole.filter(|_| !full).map_or(now, |time| since + time));
        }
        match self.tokens.checked_sub(1) {
            Some(left) => {
                self.tokens = left;
                true
            }
            None => false,
        }
    }
}

/// Allows a repeated log line now and then, and counts the others.
#[derive(Debug, Clone)]
pub struct LogLimit {
    bucket: TokenBucket,
    held_back: u64,
}

impl LogLimit {
    /// See [`TokenBucket::new`].
    pub fn new(interval: Duration, burst: u32) -> Self {
        Self {
            bucket: TokenBucket::new(interval, burst),
            held_back: 0,
        }
    }

    /// `Some(n)`: log now, and say that `n` lines were left out since the last one.
    pub fn allow(&mut self, now: Instant) -> Option<u64> {
        if self.bucket.take(now) {
            Some(std::mem::take(&mut self.held_back))
        } else {
            self.held_back += 1;
            None
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_then_one_per_interval() {
        let start = Instant::now();
        let mut bucket = TokenBucket::new(Duration::from_millis(10), 3);
        let taken = (0..10).filter(|_| bucket.take(start)).count();
        assert_eq!(taken, 3);
        assert!(!bucket.take(start + Duration::from_millis(9)));
        assert!(bucket.take(start + Duration::from_millis(10)));
        assert!(!bucket.take(start + Duration::from_millis(19)));
        let later = start + Duration::from_secs(60);
        assert_eq!((0..10).filter(|_| bucket.take(later)).count(), 3);
    }

    #[test]
    fn a_log_limit_counts_what_it_held_back() {
        let start = Instant::now();
        let mut limit = LogLimit::new(Duration::from_secs(60), 1);
        assert_eq!(limit.allow(start), Some(0));
        assert_eq!(limit.allow(start), None);
        assert_eq!(limit.allow(start), None);
        assert_eq!(limit.allow(start + Duration::from_secs(60)), Some(2));
    }
}
