//! Durations as Istio's configuration writes them: `1h30m`, `1.5s`, `100ms`.

use prost_types::Duration;

const NANOS_PER_SECOND: i128 = 1_000_000_000;

/// The largest duration that protobuf allows, in seconds: about 10,000 years either way.
pub const MAX_SECONDS: i64 = 315_576_000_000;

/// Error of parsing a duration.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DurationError {
    /// Not a sign followed by numbers with units.
    #[error("want numbers with units ns, us, ms, s, m or h, such as 1.5s or 1h30m")]
    Syntax,
    /// A number without unit.
    #[error("want a number with a unit (ns, us, ms, s, m or h), such as 5s")]
    NoUnit,
    /// More than 10,000 years.
    #[error("want at most {MAX_SECONDS}s")]
    TooLong,
}

/// Reads an optional sign and one or more of `<decimal><unit>`, or `0`.
/// Fractions of a nanosecond are cut off.
///
/// # Errors
/// If the text is not a duration, or the duration is too long.
pub fn parse(text: &str) -> Result<Duration, DurationError> {
    let (negative, mut rest) = match text.as_bytes().first() {
        Some(b'-') => (true, text.get(1..).unwrap_or_default()),
        Some(b'+') => (false, text.get(1..).unwrap_or_default()),
        _ => (false, text),
    };
    if rest == "0" {
        return Ok(Duration::default());
    }
    if rest.is_empty() {
        return Err(DurationError::Syntax);
    }
    let mut nanos = 0_i128;
    while !rest.is_empty() {
        let (part, after) = group(rest)?;
        nanos += part;
        if nanos > i128::from(MAX_SECONDS) * NANOS_PER_SECOND {
            return Err(DurationError::TooLong);
        }
        rest = after;
    }
    if negative {
        nanos = -nanos;
    }
    // Both fit: the loop has checked the range.
    Ok(Duration {
        seconds: i64::try_from(nanos / NANOS_PER_SECOND).map_err(|_| DurationError::TooLong)?,
        nanos: i32::try_from(nanos % NANOS_PER_SECOND).map_err(|_| DurationError::TooLong)?,
    })
}

/// One `<decimal><unit>`: its nanoseconds and the text after it.
fn group(text: &str) -> Result<(i128, &str), DurationError> {
    let (whole, rest) = digits(text);
    let (fraction, rest) = match rest.strip_prefix('.') {
        Some(rest) => digits(rest),
        None => ("", rest),
    };
    if whole.is_empty() && fraction.is_empty() {
        return Err(DurationError::Syntax);
    }
    let end = rest
        .find(|c: char| c == '.' || c.is_ascii_digit())
        .unwrap_or(rest.len());
    let (unit, rest) = rest.split_at(end);
    let unit: i128 = match unit {
        "ns" => 1,
        "us" | "\u{b5}s" | "\u{3bc}s" => 1_000,
        "ms" => 1_000_000,
        "s" => NANOS_PER_SECOND,
        "m" => 60 * NANOS_PER_SECOND,
        "h" => 3_600 * NANOS_PER_SECOND,
        "" => return Err(DurationError::NoUnit),
        _ => return Err(DurationError::Syntax),
    };
    let whole = whole.trim_start_matches('0');
    if whole.len() > 20 {
        return Err(DurationError::TooLong);
    }
    let whole = if whole.is_empty() {
        0
    } else {
        whole.parse::<i128>().map_err(|_| DurationError::Syntax)?
    };
    // Hours have 13 digits of nanoseconds; no digit after the 15th can matter.
    let fraction = fraction.get(..15).unwrap_or(fraction);
    let mut part = 0;
    let mut scale = 1;
    for digit in fraction.bytes() {
        part = part * 10 + i128::from(digit - b'0');
        scale *= 10;
    }
    Ok((whole * unit + part * unit / scale, rest))
}

fn digits(text: &str) -> (&str, &str) {
    text.split_at(
        text.find(|c: char| !c.is_ascii_digit())
            .unwrap_or(text.len()),
    )
}

/// Seconds with 0, 3, 6 or 9 digits after the point, as protobuf's JSON has it: `0.100s`.
#[must_use]
pub fn format(duration: &Duration) -> String {
    let duration = duration.normalized();
    let sign = if duration.seconds < 0 || duration.nanos < 0 {
        "-"
    } else {
        ""
    };
    let seconds = duration.seconds.unsigned_abs();
    let nanos = duration.nanos.unsigned_abs();
    if nanos == 0 {
        format!("{sign}{seconds}s")
    } else if nanos.is_multiple_of(1_000_000) {
        format!("{sign}{seconds}.{:03}s", nanos / 1_000_000)
    } else if nanos.is_multiple_of(1_000) {
        format!("{sign}{seconds}.{:06}s", nanos / 1_000)
    } else {
        format!("{sign}{seconds}.{nanos:09}s")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn texts_and_what_they_mean() {
        type Row = (
            &'static str,
            Result<(i64, i32), DurationError>,
            &'static str,
        );
        let table: &[Row] = &[
            ("0", Ok((0, 0)), "0s"),
            ("-0", Ok((0, 0)), "0s"),
            ("0s", Ok((0, 0)), "0s"),
            ("5m", Ok((300, 0)), "300s"),
            ("1h30m", Ok((5400, 0)), "5400s"),
            ("1.5s", Ok((1, 500_000_000)), "1.500s"),
            ("100ms", Ok((0, 100_000_000)), "0.100s"),
            ("1us", Ok((0, 1_000)), "0.000001s"),
            ("1\u{b5}s", Ok((0, 1_000)), "0.000001s"),
            ("1\u{3bc}s", Ok((0, 1_000)), "0.000001s"),
            ("7ns", Ok((0, 7)), "0.000000007s"),
            (".5s", Ok((0, 500_000_000)), "0.500s"),
            ("5.s", Ok((5, 0)), "5s"),
            ("+2s", Ok((2, 0)), "2s"),
            ("-1.5s", Ok((-1, -500_000_000)), "-1.500s"),
            ("0.1ns", Ok((0, 0)), "0s"),
            ("1h1m1s1ms", Ok((3661, 1_000_000)), "3661.001s"),
            ("315576000000s", Ok((MAX_SECONDS, 0)), "315576000000s"),
            ("315576000001s", Err(DurationError::TooLong), ""),
            ("99999999999999999999999h", Err(DurationError::TooLong), ""),
            ("", Err(DurationError::Syntax), ""),
            ("-", Err(DurationError::Syntax), ""),
            (".s", Err(DurationError::Syntax), ""),
            ("s", Err(DurationError::Syntax), ""),
            ("1d", Err(DurationError::Syntax), ""),
            ("1 s", Err(DurationError::Syntax), ""),
            ("5", Err(DurationError::NoUnit), ""),
            ("1s5", Err(DurationError::NoUnit), ""),
            ("1S", Err(DurationError::Syntax), ""),
            ("\u{e9}", Err(DurationError::Syntax), ""),
        ];
        for (text, want, written) in table {
            let got = parse(text);
            assert_eq!(got.map(|d| (d.seconds, d.nanos)), *want, "{text:?}");
            if let Ok(duration) = got {
                assert_eq!(format(&duration), *written, "{text:?}");
            }
        }
    }

    proptest! {
        #[test]
        fn written_durations_read_back(seconds in -MAX_SECONDS..MAX_SECONDS, nanos in 0..1_000_000_000_i32) {
            let nanos = if seconds < 0 { -nanos } else { nanos };
            let duration = Duration { seconds, nanos };
            prop_assert_eq!(parse(&format(&duration)), Ok(duration));
        }

        #[test]
        fn any_text_is_read_or_refused(text in "[-+0-9.a-zµ]{0,40}") {
            let _ = parse(&text);
        }
    }
}
