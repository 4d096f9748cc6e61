//! Durations as Go writes and reads them: `1h30m`, `250ms`, `2160h0m0s`.

use std::time::Duration;

use istio_api::duration::{self, DurationError};

/// Reads a non-negative Go duration; `0` alone needs no unit. At most 2^63−1 nanoseconds.
///
/// # Errors
/// Describes what is wrong with the text, in a form for clap's `value_parser`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration {text:?}: want one such as 1h30m, 45s or 100ms");
    let too_long = || format!("invalid duration {text:?}: want at most 2562047h");
    if text.starts_with('-') {
        return Err(wrong());
    }
    let read = duration::parse(text).map_err(|error| match error {
        DurationError::TooLong => too_long(),
        DurationError::Syntax | DurationError::NoUnit => wrong(),
    })?;
    Duration::try_from(read)
        .ok()
        .filter(|read| read.as_nanos() <= i64::MAX.unsigned_abs().into())
        .ok_or_else(too_long)
}

/// The form of protobuf's JSON, in seconds: `5s`, `0.250s`.
#[must_use]
pub fn json(duration: Duration) -> String {
    // All durations that [`parse`] accepts fit into protobuf's.
    let longest = Duration::from_secs(duration::MAX_SECONDS.unsigned_abs());
    let duration = duration.min(longest);
    duration::format(&prost_types::Duration {
        seconds: i64::try_from(duration.as_secs()).unwrap_or(duration::MAX_SECONDS),
        nanos: i32::try_from(duration.subsec_nanos()).unwrap_or_default(),
    })
}

/// The text, as Go's `Duration.String` writes it.
#[must_use]
pub fn format(duration: Duration) -> String {
    let nanos = duration.as_nanos();
    if nanos == 0 {
        return "0s".to_owned();
    }
    if nanos < 1_000_000_000 {
        let (unit, name) = match nanos {
            0..1_000 => (1, "ns"),
            1_000..1_000_000 => (1_000, "µs"),
            _ => (1_000_000, "ms"),
        };
        return format!("{}{name}", decimal(nanos, unit));
    }
    let seconds = decimal(nanos % 60_000_000_000, 1_000_000_000);
    let minutes = nanos / 60_000_000_000;
    match (minutes / 60, minutes % 60) {
        (0, 0) => format!("{seconds}s"),
        (0, m) => format!("{m}m{seconds}s"),
        (h, m) => format!("{h}h{m}m{seconds}s"),
    }
}

/// `value / unit` without trailing zeros; `unit` is a power of ten.
fn decimal(value: u128, unit: u128) -> String {
    let fraction = value % unit;
    if fraction == 0 {
        return (value / unit).to_string();
    }
    let digits = unit.ilog10() as usize;
    let text = format!("{}.{fraction:0digits$}", value / unit);
    text.trim_end_matches('0').to_owned()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn reads_what_go_reads() {
        for (text, nanos) in [
            ("0", 0u64),
            ("0s", 0),
            ("1.5h", 5_400_000_000_000),
            ("1h30m", 5_400_000_000_000),
            ("100ms", 100_000_000),
            (".5s", 500_000_000),
            ("3us", 3_000),
            ("3µs", 3_000),
            ("2562047h47m16.854775807s", i64::MAX as u64),
        ] {
            assert_eq!(parse(text), Ok(Duration::from_nanos(nanos)), "{text}");
        }
    }

    #[test]
    fn refuses_the_rest() {
        for text in [
            "",
            "1",
            "-1s",
            "1d",
            "h",
            ".s",
            "1..5s",
            "1 s",
            "1h30",
            "2562047h47m16.854775808s",
            "9".repeat(60).as_str(),
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
    }

    #[test]
    fn writes_what_go_writes() {
        for (seconds, text) in [
            (99_999_999, "27777h46m39s"),
            (7_776_000, "2160h0m0s"),
            (61, "1m1s"),
            (0, "0s"),
        ] {
            assert_eq!(format(Duration::from_secs(seconds)), text);
        }
        assert_eq!(format(Duration::from_micros(1_500)), "1.5ms");
        assert_eq!(format(Duration::from_millis(62_250)), "1m2.25s");
    }

    #[test]
    fn json_form_is_seconds() {
        assert_eq!(json(Duration::from_secs(45)), "45s");
        assert_eq!(json(Duration::from_millis(250)), "0.250s");
        assert_eq!(json(Duration::from_nanos(1)), "0.000000001s");
        assert_eq!(parse("1m30s"), Ok(Duration::from_secs(90)));
    }

    proptest! {
        #[test]
        fn format_and_parse_agree(nanos in 0u64..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
