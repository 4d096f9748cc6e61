//! Exit statuses other than 0 and 1, attached to errors.

/// Wrong usage.
pub const USAGE: u8 = 64;
/// Capture rules are not effective (`istio-iptables --run-validation`).
pub const VALIDATION: u8 = 126;

/// An error with its own exit status.
#[derive(Debug, thiserror::Error)]
#[error("{source:#}")]
pub struct Exit {
    /// The exit status.
    pub status: u8,
    source: anyhow::Error,
}

/// Marks an error as wrong usage.
pub fn usage(source: impl Into<anyhow::Error>) -> anyhow::Error {
    Exit {
        status: USAGE,
        source: source.into(),
    }
    .into()
}

/// Marks an error as a failed validation of capture rules.
pub fn validation(source: impl Into<anyhow::Error>) -> anyhow::Error {
    Exit {
        status: VALIDATION,
        source: source.into(),
    }
    .into()
}

/// The exit status of an error; 1 unless it has its own.
#[must_use]
pub fn status(error: &anyhow::Error) -> u8 {
    error.downcast_ref::<Exit>().map_or(1, |exit| exit.status)
}
