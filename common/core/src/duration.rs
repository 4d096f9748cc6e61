//! Durations as Go writes and reads them: `1h30m`, `250ms`, `2160h0m0s`.

use std::time::Duration;

/// Unit names, longest first where one is the start of another, with nanoseconds.
const UNITS: [(&str, u128); 8] = [
    ("ns", 1),
    ("us", 1_000),
    ("µs", 1_000),
    ("μs", 1_000),
    ("ms", 1_000_000),
    ("s", 1_000_000_000),
    ("m", 60 * 1_000_000_000),
    ("h", 3_600 * 1_000_000_000),
];

/// Reads a non-negative Go duration; `0` alone needs no unit. At most 2^63−1 nanoseconds.
///
/// # Errors
/// Says what is wrong with the text. Fits clap's `value_parser`.
pub fn parse(text: &str) -> Result<Duration, String> {
    let wrong = || format!("invalid duration {text:?}, want a form like 1h30m, 45s or 100ms");
    if text == "0" {
        return Ok(Duration::ZERO);
    }
    let mut rest = text.strip_prefix('+').unwrap_or(text);
    if rest.is_empty() {
        return Err(wrong());
    }
    let mut total: u128 = 0;
    while !rest.is_empty() {
        let digits = rest
            .find(|c: char| !c.is_ascii_digit() && c != '.')
            .ok_or_else(wrong)?;
        let (number, after) = rest.split_at(digits);
        // `m` is also the start of `ms`: the unit is all up to the next digit.
        let end = after
            .find(|c: char| c.is_ascii_digit() || c == '.')
            .unwrap_or(after.len());
        let (unit, after) = after.split_at(end);
        let nanos = UNITS
            .iter()
            .find(|(name, _)| *name == unit)
            .map(|(_, nanos)| *nanos)
            .ok_or_else(wrong)?;
        total = amount(number, nanos)
            .and_then(|part| total.checked_add(part))
            .ok_or_else(wrong)?;
        rest = after;
    }
    let nanos = i64::try_from(total).map_err(|_| format!("duration {text:?} is too long"))?;
    Ok(Duration::from_nanos(nanos.unsigned_abs()))
}

/// `number` (digits with at most one dot) times `unit` nanoseconds, rounded down.
fn amount(number: &str, unit: u128) -> Option<u128> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() && fraction.is_empty() || fraction.contains('.') {
        return None;
    }
    let integer = |digits: &str| {
        if digits.is_empty() {
            Some(0)
        } else {
            digits.parse::<u128>().ok()
        }
    };
    let mut total = integer(whole)?.checked_mul(unit)?;
    // Beyond 18 digits a fraction of an hour is below a nanosecond.
    let fraction: String = fraction.chars().take(18).collect();
    let scale = 10u128.checked_pow(u32::try_from(fraction.len()).ok()?)?;
    total = total.checked_add(integer(&fraction)?.checked_mul(unit)? / scale)?;
    Some(total)
}

/// The text that Go's `Duration.String` gives.
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

    proptest! {
        #[test]
        fn format_and_parse_agree(nanos in 0u64..=i64::MAX as u64) {
            let duration = Duration::from_nanos(nanos);
            prop_assert_eq!(parse(&format(duration)), Ok(duration));
        }
    }
}
