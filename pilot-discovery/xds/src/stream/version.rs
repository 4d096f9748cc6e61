//! Versions of resources on the wire.

/// A version in its wire form: 16 hex digits.
pub fn hex(version: u64) -> [u8; 16] {
    std::array::from_fn(|at| {
        let digit = (version >> (60 - 4 * at)) & 0xf;
        // Cannot fail, as a digit is below 16.
        b"0123456789abcdef"
            .get(digit as usize)
            .copied()
            .unwrap_or(b'0')
    })
}

/// Parses the form written by [`hex`].
pub(super) fn parse(version: &str) -> Option<u64> {
    let lower = |byte: u8| matches!(byte, b'0'..=b'9' | b'a'..=b'f');
    let hex = version.len() == 16 && version.bytes().all(lower);
    hex.then(|| u64::from_str_radix(version, 16).ok()).flatten()
}
