//! Certificate lifetimes.

use std::time::Duration;

use mesh_core::duration;

use super::Error;

/// The lifetime that a caller requests; zero and negative values select the default.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Requested {
    /// `validity_duration` of `CreateCertificate`.
    Seconds(i64),
    /// `requested_ttl_minutes` of `HandleCSR`.
    Minutes(i32),
}

/// Limits of lifetimes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TtlPolicy {
    /// For callers that request no lifetime.
    pub default: Duration,
    /// Longer lifetimes are refused.
    pub max: Duration,
    /// Shorter lifetimes are refused; zero for no limit.
    pub min: Duration,
}

impl TtlPolicy {
    /// The lifetime of the certificate, before it is limited to that of the signer.
    ///
    /// # Errors
    /// [`Error::Ttl`] outside the limits.
    pub fn resolve(&self, requested: Requested) -> Result<Duration, Error> {
        let seconds = match requested {
            Requested::Seconds(seconds) => seconds,
            Requested::Minutes(minutes) => i64::from(minutes) * 60,
        };
        let ttl = match u64::try_from(seconds) {
            Err(_) | Ok(0) => self.default,
            Ok(seconds) => Duration::from_secs(seconds),
        };
        if ttl > self.max {
            return Err(Error::Ttl(format!(
                "requested TTL {} is greater than the max allowed TTL {}",
                duration::format(ttl),
                duration::format(self.max)
            )));
        }
        if ttl < self.min {
            return Err(Error::Ttl(format!(
                "requested TTL {} is less than the min allowed TTL {}",
                duration::format(ttl),
                duration::format(self.min)
            )));
        }
        Ok(ttl)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const POLICY: TtlPolicy = TtlPolicy {
        default: Duration::from_secs(24 * 3600),
        max: Duration::from_secs(2160 * 3600),
        min: Duration::ZERO,
    };

    #[test]
    fn nothing_asked_gives_the_default() {
        for requested in [
            Requested::Seconds(0),
            Requested::Seconds(-1),
            Requested::Minutes(i32::MIN),
        ] {
            assert_eq!(POLICY.resolve(requested), Ok(POLICY.default));
        }
    }

    #[test]
    fn up_to_the_maximum_is_given() {
        let max = 2160 * 3600;
        assert_eq!(
            POLICY.resolve(Requested::Seconds(1)),
            Ok(Duration::from_secs(1))
        );
        assert_eq!(POLICY.resolve(Requested::Seconds(max)), Ok(POLICY.max));
        assert_eq!(
            POLICY.resolve(Requested::Minutes(2160 * 60)),
            Ok(POLICY.max)
        );
        for requested in [
            Requested::Seconds(max + 1),
            Requested::Seconds(i64::MAX),
            Requested::Seconds(9_000_000_000_000),
            Requested::Minutes(i32::MAX),
        ] {
            assert!(
                matches!(POLICY.resolve(requested), Err(Error::Ttl(_))),
                "{requested:?}"
            );
        }
    }

    #[test]
    fn refusal_has_go_durations() {
        let error = POLICY
            .resolve(Requested::Seconds(99_999_999))
            .unwrap_err()
            .to_string();
        assert_eq!(
            error,
            "CSR signing error (requested TTL 27777h46m39s is greater than the max allowed TTL 2160h0m0s)"
        );
    }

    #[test]
    fn a_minimum_is_kept_when_set() {
        let policy = TtlPolicy {
            min: Duration::from_secs(60),
            ..POLICY
        };
        assert!(policy.resolve(Requested::Seconds(59)).is_err());
        assert!(policy.resolve(Requested::Seconds(60)).is_ok());
        assert!(policy.resolve(Requested::Seconds(0)).is_ok());
    }
}
