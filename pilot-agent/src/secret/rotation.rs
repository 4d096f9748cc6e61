//! When to renew. Pure: time and randomness are arguments.

use std::time::{Duration, SystemTime};

/// Minimum delay, however short the lifetime is.
pub const SHORTEST_DELAY: Duration = Duration::from_secs(1);
/// Minimum delay when a new certificate is overdue already, because of a wrong clock on either
/// side.
pub const OVERDUE_DELAY: Duration = Duration::from_secs(10);

/// How long to wait from `now` until the certificate is renewed.
///
/// Renewal is due when the share `grace`, varied by up to `jitter` in either direction, is left of
/// the lifetime between `created` and `not_after`. `random` is uniform in −1 to 1.
#[must_use]
pub fn delay(
    created: SystemTime,
    not_after: SystemTime,
    now: SystemTime,
    grace: f64,
    jitter: f64,
    random: f64,
) -> Duration {
    let life = not_after.duration_since(created).unwrap_or_default();
    let left = life.mul_f64(random.mul_add(jitter, grace).clamp(0.0, 1.0));
    let due = not_after.checked_sub(left).unwrap_or(created);
    match due.duration_since(now) {
        Ok(wait) if !wait.is_zero() => wait.max(SHORTEST_DELAY),
        _ => OVERDUE_DELAY,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_day_is_renewed_around_its_middle() {
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let end = created + Duration::from_secs(24 * 3600);
        let minutes = |random: f64| delay(created, end, created, 0.5, 0.01, random).as_secs() / 60;
        assert_eq!(minutes(1.0), 11 * 60 + 45);
        assert_eq!(minutes(0.0), 12 * 60);
        assert_eq!(minutes(-1.0), 12 * 60 + 14);
    }

    #[test]
    fn a_short_life_is_renewed_before_its_end() {
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let seconds = |life: u64| {
            let end = created + Duration::from_secs(life);
            delay(created, end, created, 0.5, 0.0, 0.0).as_secs()
        };
        assert_eq!((seconds(10), seconds(4), seconds(1)), (5, 2, 1));
    }

    #[test]
    fn what_is_overdue_is_asked_for_slowly() {
        let created = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        for (end, now) in [(0, 0), (60, 3600)] {
            let end = created + Duration::from_secs(end);
            let now = created + Duration::from_secs(now);
            assert_eq!(delay(created, end, now, 0.5, 0.0, 0.0), OVERDUE_DELAY);
        }
        let before = created - Duration::from_secs(9);
        assert_eq!(
            delay(created, before, created, 1.0, 0.0, 0.0),
            OVERDUE_DELAY
        );
    }
}
