//! Delays between attempts: exponential, with jitter.

use std::time::Duration;

/// Doubles from `min` to `max`. Each delay is between half the step and the whole step, never below
/// `min`, so that many clients do not retry at the same time.
#[derive(Clone, Debug)]
pub struct Steps {
    min: Duration,
    max: Duration,
    step: Duration,
}

impl Steps {
    /// Delays from `min` to `max`; a `max` below `min` counts as `min`.
    #[must_use]
    pub fn new(min: Duration, max: Duration) -> Self {
        Self {
            min,
            max: max.max(min),
            step: min,
        }
    }

    /// The delay before the next attempt. `jitter`, from 0 to 1, is its position between half the
    /// step and the whole step.
    pub fn next(&mut self, jitter: f64) -> Duration {
        let step = self.step;
        self.step = step.saturating_mul(2).clamp(self.min, self.max);
        step.mul_f64(0.5 + jitter.clamp(0.0, 1.0) / 2.0)
            .clamp(self.min, self.max)
    }

    /// After a success: resets the delay to about `min`.
    pub fn reset(&mut self) {
        self.step = self.min;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn stays_in_bounds_and_grows(
            min in 0u64..100_000,
            extra in 0u64..100_000_000,
            jitters in prop::collection::vec(0.0f64..=1.0, 1..80),
        ) {
            let (min, max) = (Duration::from_micros(min), Duration::from_micros(min + extra));
            let mut steps = Steps::new(min, max);
            let mut ceiling = min;
            for jitter in jitters {
                let delay = steps.next(jitter);
                prop_assert!(delay >= min && delay <= max);
                prop_assert!(delay <= ceiling);
                prop_assert!(delay.as_nanos() + 1 >= ceiling.as_nanos() / 2);
                ceiling = (ceiling * 2).min(max);
            }
            steps.reset();
            prop_assert_eq!(steps.next(0.0), min);
        }
    }

    #[test]
    fn a_maximum_below_the_minimum_is_the_minimum() {
        let mut steps = Steps::new(Duration::from_secs(2), Duration::from_secs(1));
        assert_eq!(steps.next(1.0), Duration::from_secs(2));
        assert_eq!(steps.next(1.0), Duration::from_secs(2));
    }
}
