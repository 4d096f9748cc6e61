//! Ports, durations, percentages, statuses.

use prost_types::Duration;

use super::super::report::quote;
use super::{Outcome, ensure};

pub(in super::super) fn is_port(number: u32) -> bool {
    (1..=65_535).contains(&number)
}

pub(in super::super) fn port(number: u32) -> Outcome {
    ensure(is_port(number), || {
        format!("{number} is not a valid port: want 1 to 65535")
    })
}

fn nanos(duration: &Duration) -> i128 {
    i128::from(duration.seconds) * 1_000_000_000 + i128::from(duration.nanos)
}

const MILLISECOND: i128 = 1_000_000;

/// At least a millisecond, in whole milliseconds.
pub(in super::super) fn duration(value: &Duration) -> Outcome {
    let nanos = nanos(value);
    ensure(nanos >= MILLISECOND && nanos % MILLISECOND == 0, || {
        format!(
            "{} is not allowed: want 1ms or more, in whole milliseconds",
            seconds(nanos)
        )
    })
}

/// As [`duration`]; below a millisecond it means "off".
pub(in super::super) fn duration_or_off(value: &Duration) -> Outcome {
    if nanos(value) < MILLISECOND {
        return Ok(());
    }
    duration(value)
}

fn seconds(nanos: i128) -> String {
    let sign = if nanos < 0 { "-" } else { "" };
    let nanos = nanos.unsigned_abs();
    let (whole, part) = (nanos / 1_000_000_000, nanos % 1_000_000_000);
    let part = format!("{part:09}");
    let part = part.trim_end_matches('0');
    let dot = if part.is_empty() { "" } else { "." };
    format!("{sign}{whole}{dot}{part}s")
}

/// A whole percentage.
pub(in super::super) fn percent(value: i32) -> Outcome {
    ensure((0..=100).contains(&value), || {
        format!("{value} is not a valid percentage: want 0 to 100")
    })
}

/// A share of requests, which Envoy counts in millionths.
pub(in super::super) fn fraction(value: f64) -> Outcome {
    let right = value == 0.0 || (0.0001..=100.0).contains(&value);
    ensure(right, || {
        format!("{value} is not a valid percentage: want 0, or 0.0001 to 100")
    })
}

/// As [`fraction`], without a smallest share.
pub(in super::super) fn range_percent(value: f64) -> Outcome {
    // NaN passes, as in 1.30: it is neither below nor above the range.
    ensure(value.is_nan() || (0.0..=100.0).contains(&value), || {
        format!("{value} is not a valid percentage: want 0 to 100")
    })
}

pub(in super::super) fn not_negative(value: i32) -> Outcome {
    ensure(value >= 0, || {
        format!("{value} is negative: want 0 or more")
    })
}

/// 600 passes, as in 1.30.
pub(in super::super) fn http_status(value: i64) -> Outcome {
    ensure((200..=600).contains(&value), || {
        format!("{value} is not a valid response status: want 200 to 599")
    })
}

const GRPC: [&str; 17] = [
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
];

pub(in super::super) fn grpc_status(name: &str) -> Outcome {
    ensure(GRPC.contains(&name), || {
        format!(
            "{} is not a gRPC status: want a name such as UNAVAILABLE or NOT_FOUND",
            quote(name)
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(text: &str) -> Duration {
        istio_api::duration::parse(text).unwrap()
    }

    #[test]
    fn durations() {
        for good in ["1ms", "1.5s", "1h"] {
            assert_eq!(duration(&of(good)), Ok(()), "{good}");
        }
        for bad in ["0s", "500us", "1.0005s", "-1s"] {
            assert!(duration(&of(bad)).is_err(), "{bad}");
        }
        assert_eq!(duration_or_off(&of("500us")), Ok(()));
        assert!(duration_or_off(&of("1.0005s")).is_err());
        let odd = Duration {
            seconds: i64::MIN,
            nanos: i32::MIN,
        };
        assert!(duration(&odd).is_err());
    }

    #[test]
    fn durations_are_shown_in_seconds() {
        let message = duration(&of("-1.5005s")).unwrap_err();
        assert!(message.starts_with("-1.5005s is not allowed"), "{message}");
    }

    #[test]
    fn shares() {
        for good in [0.0, 0.0001, 100.0] {
            assert_eq!(fraction(good), Ok(()));
        }
        for bad in [0.00001, -1.0, 100.1, f64::NAN] {
            assert!(fraction(bad).is_err());
        }
        assert_eq!(range_percent(0.00001), Ok(()));
        assert!(range_percent(-0.1).is_err());
    }

    #[test]
    fn statuses() {
        for good in [200, 503, 600] {
            assert_eq!(http_status(good), Ok(()));
        }
        assert!(http_status(199).is_err() && http_status(601).is_err());
        assert_eq!(grpc_status("UNAVAILABLE"), Ok(()));
        assert!(grpc_status("Unavailable").is_err() && grpc_status("14").is_err());
    }

    #[test]
    fn ports() {
        assert!(is_port(1) && is_port(65_535) && !is_port(0) && !is_port(65_536));
    }
}
