//! Whether what pilots say, or do not say, means anything yet.

use std::time::Instant;

use super::{Now, Timing};

/// A galley that starts, and one that no pilot talks to for a moment, takes nothing back.
#[derive(Debug, Clone, Copy)]
pub(super) enum Voice {
    /// What is shown of proxies stays until then.
    Quiet(Instant),
    /// What pilots say is all there is to say.
    Speaking,
}

impl Voice {
    /// At the start, and when the last pilot has fallen silent.
    pub(super) fn silent(timing: &Timing, now: Now) -> Self {
        Self::Quiet(now.monotonic + timing.silence)
    }

    /// The first pilot has begun to report; the others are given a moment.
    pub(super) fn heard(self, timing: &Timing, now: Now) -> Self {
        let settled = now.monotonic + timing.settle;
        match self {
            Self::Quiet(until) => Self::Quiet(until.min(settled)),
            Self::Speaking => Self::Quiet(settled),
        }
    }

    pub(super) const fn deadline(self) -> Option<Instant> {
        match self {
            Self::Quiet(until) => Some(until),
            Self::Speaking => None,
        }
    }

    pub(super) const fn is_quiet(self) -> bool {
        matches!(self, Self::Quiet(_))
    }
}
