//! Rate limits per caller.

use std::collections::HashMap;
use std::hash::Hash;
use std::time::{Duration, Instant};

use parking_lot::Mutex;

/// Maximum number of remembered callers; above it, those with a full bucket are forgotten.
const MAX_KEYS: usize = 10_000;

/// A token bucket for each key.
#[derive(Debug)]
pub(super) struct RateLimiter<K> {
    burst: f64,
    per_second: f64,
    buckets: Mutex<HashMap<K, Bucket>>,
}

#[derive(Clone, Copy, Debug)]
struct Bucket {
    left: f64,
    at: Instant,
}

impl<K: Eq + Hash> RateLimiter<K> {
    /// Allows `burst` at once and then `burst` in each `period`.
    pub(super) fn new(burst: u32, period: Duration) -> Self {
        Self {
            burst: f64::from(burst),
            per_second: f64::from(burst) / period.as_secs_f64(),
            buckets: Mutex::default(),
        }
    }

    fn refilled(&self, bucket: Bucket, now: Instant) -> f64 {
        let waited = now.saturating_duration_since(bucket.at).as_secs_f64();
        (bucket.left + waited * self.per_second).min(self.burst)
    }

    /// Takes one of the key's tokens, if there is one.
    pub(super) fn take(&self, key: K, now: Instant) -> bool {
        let mut buckets = self.buckets.lock();
        if buckets.len() >= MAX_KEYS && !buckets.contains_key(&key) {
            buckets.retain(|_, bucket| self.refilled(*bucket, now) < self.burst);
            if buckets.len() >= MAX_KEYS {
                // Bounded memory takes precedence over exact counts.
                buckets.clear();
            }
        }
        let bucket = buckets.entry(key).or_insert(Bucket {
            left: self.burst,
            at: now,
        });
        *bucket = Bucket {
            left: self.refilled(*bucket, now),
            at: now,
        };
        let allowed = bucket.left >= 1.0;
        if allowed {
            bucket.left -= 1.0;
        }
        allowed
    }

    /// Whether the key has tokens left, without taking one.
    pub(super) fn has(&self, key: &K, now: Instant) -> bool {
        let buckets = self.buckets.lock();
        buckets
            .get(key)
            .is_none_or(|bucket| self.refilled(*bucket, now) >= 1.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_burst_and_then_the_rate() {
        let limiter = RateLimiter::new(10, Duration::from_secs(5));
        let start = Instant::now();
        assert_eq!((0..20).filter(|_| limiter.take("a", start)).count(), 10);
        assert!(!limiter.has(&"a", start));
        assert!(limiter.take("b", start));
        let later = start + Duration::from_secs(1);
        assert_eq!((0..20).filter(|_| limiter.take("a", later)).count(), 2);
    }

    #[test]
    fn memory_is_bounded() {
        let limiter = RateLimiter::new(1, Duration::from_secs(1));
        let start = Instant::now();
        for key in 0..3 * MAX_KEYS {
            limiter.take(key, start);
        }
        assert!(limiter.buckets.lock().len() <= MAX_KEYS);
    }
}
