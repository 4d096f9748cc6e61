//! State of one object.

use std::time::{Duration, Instant};

use istio_api::collections::Collection;
use serde_json::Value;

use super::{Live, Now, Outcome, Write};
use crate::status::desired::{InForce, since};
use crate::status::observation::Verdict;
use crate::status::patch;
use crate::status::statement::{Condition, Since, State, Statement};

/// While not all proxies hold an object, changed numbers are written after this time, then after
/// twice as long, and so on …
const COUNTS_FIRST: Duration = Duration::from_secs(5);
/// … up to this.
const COUNTS_LAST: Duration = Duration::from_secs(3600);

#[derive(Debug)]
pub(super) struct Row {
    collection: &'static Collection,
    verdict: Verdict,
    /// The last state that was accepted.
    in_force: Option<InForce>,
    /// The object at the API server; `None` for an object in a file.
    live: Option<Box<Live>>,
    accepted: Option<Since>,
    distributed: Option<Since>,
    in_flight: bool,
    /// Hash of a status that the API server rejects for the present state of the object.
    refused: Option<u64>,
    written: Option<Instant>,
    /// Number of writes of changed numbers alone, for the state in force.
    counts: u32,
}

/// Since when a condition has its state, as the API server shows it if it is the same.
fn dated(
    known: Option<Since>,
    shown: Option<Since>,
    condition: Option<&Condition>,
    now: Now,
) -> Option<Since> {
    let state = condition?.state;
    let shown = shown.filter(|(shown, _)| *shown == state);
    Some(since(shown.or(known), state, now.wall))
}

impl Row {
    pub(super) fn new(collection: &'static Collection) -> Self {
        Self {
            collection,
            verdict: Verdict::Refused("".into()),
            in_force: None,
            live: None,
            accepted: None,
            distributed: None,
            in_flight: false,
            refused: None,
            written: None,
            counts: 0,
        }
    }

    pub(super) fn observe(&mut self, verdict: Verdict, live: Option<Box<Live>>) {
        self.verdict = verdict;
        if let Some(live) = live {
            self.shows(live);
        }
        if let Verdict::Accepted(version) = &self.verdict {
            let in_force = InForce {
                version: *version,
                generation: self.generation(),
            };
            if self.in_force != Some(in_force) {
                self.counts = 0;
            }
            self.in_force = Some(in_force);
        }
    }

    fn shows(&mut self, live: Box<Live>) {
        self.refused = None;
        self.live = Some(live);
    }

    pub(super) const fn collection(&self) -> &'static Collection {
        self.collection
    }

    pub(super) const fn in_force(&self) -> Option<InForce> {
        self.in_force
    }

    pub(super) const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub(super) fn generation(&self) -> Option<i64> {
        self.live.as_ref()?.generation
    }

    pub(super) fn shown_condition(&self) -> Option<&Condition> {
        self.live.as_ref()?.shown.condition.as_deref()
    }

    /// When the statement is due to be written; `None` if it need not be, or not now.
    pub(super) fn consider(&mut self, statement: &Statement, now: Now) -> Option<Instant> {
        let shown = self.live.as_ref().map(|live| &live.shown);
        let times = shown.map(|shown| (shown.accepted, shown.distributed));
        let (accepted, distributed) = times.unwrap_or_default();
        let said = statement.accepted.as_ref();
        self.accepted = dated(self.accepted, accepted, said, now);
        let said = statement.distributed.as_ref();
        self.distributed = dated(self.distributed, distributed, said, now);
        let shown = shown?.digest;
        let digest = statement.digest();
        let is_right = digest.full == shown.full;
        if self.in_flight || is_right || self.refused == Some(digest.full) {
            return None;
        }
        let now = now.monotonic;
        let earliest = self.written.filter(|_| self.is_about_numbers(statement));
        Some(earliest.map_or(now, |written| written + self.interval()))
    }

    /// Only a changed number or reason may wait. The first statement on a generation, and that all
    /// proxies hold it, are written at once.
    fn is_about_numbers(&self, statement: &Statement) -> bool {
        let Some(live) = &self.live else {
            return false;
        };
        let (Some(shown), Some(said)) = (&live.shown.condition, &statement.distributed) else {
            return false;
        };
        statement.digest().rest == live.shown.digest.rest
            && shown.generation == said.generation
            && said.state != State::True
    }

    fn interval(&self) -> Duration {
        let factor = 1_u32.checked_shl(self.counts).unwrap_or(u32::MAX);
        COUNTS_FIRST.saturating_mul(factor).min(COUNTS_LAST)
    }

    /// The status as JSON.
    pub(super) fn status(&self, statement: &Statement) -> Value {
        let live = self.live.as_ref();
        let others = live.and_then(|live| live.shown.others.as_deref());
        patch::status(statement, self.accepted, self.distributed, others)
    }

    /// The status to write, and whether only numbers differ; `None` for an object in a file.
    pub(super) fn begin(&mut self, statement: &Statement) -> Option<(&Live, Value, bool)> {
        let status = self.status(statement);
        let is_about_numbers = self.is_about_numbers(statement);
        self.in_flight = true;
        Some((self.live.as_deref()?, status, is_about_numbers))
    }

    pub(super) fn done(&mut self, write: &Write, outcome: Outcome, now: Now) {
        self.in_flight = false;
        let Some(live) = &self.live else {
            return;
        };
        // A state that was seen meanwhile is newer.
        let is_current = live.resource_version == write.resource_version;
        match outcome {
            Outcome::Written(resource_version, shown) => {
                self.written = Some(now.monotonic);
                self.counts += u32::from(write.is_about_numbers);
                if is_current {
                    let live = Live {
                        resource_version,
                        shown,
                        ..Live::clone(live)
                    };
                    self.shows(Box::new(live));
                }
            }
            Outcome::Refused if is_current => self.refused = Some(write.digest),
            Outcome::Refused | Outcome::Lost => {}
        }
    }
}
