//! A histogram of latencies with 32 buckets per power of two: limited memory, percentiles with an
//! error of at most 3 %.

use std::time::Duration;

const STEPS: u64 = 32;

/// Counts of latencies, from 1 µs up.
#[derive(Clone, Debug, Default)]
pub(super) struct Histogram {
    buckets: Vec<u64>,
    count: u64,
    sum_us: u64,
    max_us: u64,
}

/// Below 32 each value has its own bucket; above, each power of two is split into 32 buckets.
fn bucket(us: u64) -> usize {
    let index = if us < STEPS {
        us
    } else {
        let shift = u64::from(us.ilog2()) - 5;
        STEPS * shift + (us >> shift)
    };
    usize::try_from(index).unwrap_or(usize::MAX)
}

/// Largest value of a bucket.
fn upper(index: usize) -> u64 {
    let index = index as u64;
    if index < STEPS {
        return index;
    }
    let shift = index / STEPS - 1;
    let mantissa = index - STEPS * shift;
    ((mantissa + 1) << shift) - 1
}

impl Histogram {
    pub(super) fn add(&mut self, latency: Duration) {
        let us = u64::try_from(latency.as_micros()).unwrap_or(u64::MAX);
        let index = bucket(us);
        if self.buckets.len() <= index {
            self.buckets.resize(index + 1, 0);
        }
        if let Some(count) = self.buckets.get_mut(index) {
            *count += 1;
        }
        self.count += 1;
        self.sum_us = self.sum_us.saturating_add(us);
        self.max_us = self.max_us.max(us);
    }

    pub(super) fn merge(&mut self, other: &Self) {
        if self.buckets.len() < other.buckets.len() {
            self.buckets.resize(other.buckets.len(), 0);
        }
        for (mine, theirs) in self.buckets.iter_mut().zip(&other.buckets) {
            *mine += theirs;
        }
        self.count += other.count;
        self.sum_us = self.sum_us.saturating_add(other.sum_us);
        self.max_us = self.max_us.max(other.max_us);
    }

    /// The given percentile (0 to 1) in milliseconds; 0 without any latencies.
    pub(super) fn percentile_ms(&self, share: f64) -> f64 {
        let rank = (self.count as f64 * share).ceil().max(1.0) as u64;
        let mut seen = 0;
        for (index, count) in self.buckets.iter().enumerate() {
            seen += count;
            if seen >= rank {
                return upper(index).min(self.max_us) as f64 / 1000.0;
            }
        }
        0.0
    }

    pub(super) fn mean_ms(&self) -> f64 {
        if self.count == 0 {
            0.0
        } else {
            self.sum_us as f64 / self.count as f64 / 1000.0
        }
    }

    pub(super) fn max_ms(&self) -> f64 {
        self.max_us as f64 / 1000.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_value_lies_in_its_bucket_and_buckets_are_narrow() {
        for us in (0..5000).chain([10_000, 65_535, 65_536, 1_000_000, u64::MAX >> 1]) {
            let top = upper(bucket(us));
            assert!(top >= us && top <= us + us / 16 + 1, "{us} -> {top}");
            assert!(us == 0 || bucket(us) >= bucket(us - 1));
        }
    }

    #[test]
    fn percentiles_of_a_hundred_values() {
        let mut all = Histogram::default();
        for ms in 1..=100 {
            all.add(Duration::from_millis(ms));
        }
        for (share, ms) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            let got = all.percentile_ms(share);
            assert!((got - ms).abs() <= ms * 0.035, "{share}: {got}");
        }
        assert!((all.mean_ms() - 50.5).abs() < 0.01);
    }
}
