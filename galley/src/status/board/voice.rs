//! Whether reports of pilots, or their absence, can be relied on yet.

use std::time::Instant;

use super::{Now, Timing};

/// After galley's start, and while no pilot is connected for a moment, nothing is withdrawn.
#[derive(Debug, Clone, Copy)]
pub(super) enum Voice {
    /// The condition `Distributed` stays as shown until then.
    Quiet(Instant),
    /// The reports of pilots are complete.
    Speaking,
}

impl Voice {
    /// After the start, and when the last pilot has stopped reporting.
    pub(super) fn silent(timing: &Timing, now: Now) -> Self {
        Self::Quiet(now.monotonic + timing.silence)
    }

    /// The first pilot has begun to report; the others get some time to begin.
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
