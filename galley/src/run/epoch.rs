//! What tells this process from every other.

use std::time::{SystemTime, UNIX_EPOCH};

/// Unlike that of any other run or replica: the time of the start in base 36.
pub(super) fn epoch() -> String {
    let time = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let mut rest = time.as_millis();
    let mut digits = Vec::new();
    while rest > 0 {
        let digit = u32::try_from(rest % 36).unwrap_or_default();
        digits.extend(char::from_digit(digit, 36));
        rest /= 36;
    }
    digits.iter().rev().collect()
}
