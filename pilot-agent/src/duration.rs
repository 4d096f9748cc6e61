//! Text forms of durations.

use std::time::Duration;

/// Parses a non-negative duration in Go's form (`1h30m`, `0.25s`), which includes that of protobuf
/// JSON.
#[must_use]
pub fn parse(text: &str) -> Option<Duration> {
    mesh_common::duration::parse(text.trim()).ok()
}

/// Formats a duration for protobuf JSON, in seconds: `5s`, `0.250s`.
#[must_use]
pub fn to_json(duration: Duration) -> String {
    match duration.subsec_nanos() {
        0 => format!("{}s", duration.as_secs()),
        nanos if nanos % 1_000_000 == 0 => {
            format!("{}.{:03}s", duration.as_secs(), nanos / 1_000_000)
        }
        nanos => format!("{}.{nanos:09}s", duration.as_secs()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_form_is_seconds() {
        assert_eq!(to_json(Duration::from_secs(45)), "45s");
        assert_eq!(to_json(Duration::from_millis(250)), "0.250s");
        assert_eq!(to_json(Duration::from_nanos(1)), "0.000000001s");
        assert_eq!(parse("1m30s"), Some(Duration::from_secs(90)));
    }
}
