//! Delays between attempts: exponential, with random jitter.

use std::time::Duration;

use mesh_core::backoff::Steps;

/// The delays of [`Steps`] with random jitter.
#[derive(Clone, Debug)]
pub struct Backoff(Steps);

impl Backoff {
    /// See [`Steps::new`].
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self(Steps::new(min, max))
    }

    /// The delay before the next attempt.
    #[expect(
        clippy::should_implement_trait,
        reason = "it never ends: not an iterator"
    )]
    pub fn next(&mut self) -> Duration {
        self.0.next(rand::random_range(0.0..=1.0))
    }

    /// After a success: resets the delay to the shortest one.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stays_in_bounds_and_grows(min in 0u64..100_000, extra in 0u64..100_000_000, steps in 1usize..80) {
            let (min, max) = (Duration::from_micros(min), Duration::from_micros(min + extra));
            let mut backoff = Backoff::new(min, max);
            let mut ceiling = min;
            for _ in 0..steps {
                let delay = backoff.next();
                prop_assert!(delay >= min && delay <= max);
                prop_assert!(delay <= ceiling);
                prop_assert!(delay.as_nanos() + 1 >= ceiling.as_nanos() / 2);
                ceiling = (ceiling * 2).min(max);
            }
            backoff.reset();
            prop_assert_eq!(backoff.next(), min);
        }
    }

    #[test]
    fn a_maximum_below_the_minimum_is_the_minimum() {
        let mut backoff = Backoff::new(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(backoff.next(), Duration::from_secs(2));
        assert_eq!(backoff.next(), Duration::from_secs(2));
    }
}
