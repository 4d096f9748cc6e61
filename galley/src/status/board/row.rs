//! What is known of one object.

use std::time::Instant;

use istio_api::collections::Collection;
use serde_json::Value;

use super::{COUNTS_INTERVAL, Live, Now, Outcome, Write};
use crate::status::desired::{Condition, Digest, Since, Statement, since};
use crate::status::observation::Verdict;
use crate::status::patch;

#[derive(Debug)]
pub(super) struct Row {
    collection: &'static Collection,
    verdict: Verdict,
    /// Of the state that was accepted last.
    version: u64,
    /// How the API server has it; `None` for an object of a file.
    live: Option<Box<Live>>,
    accepted: Option<Since>,
    distributed: Option<Since>,
    in_flight: bool,
    /// Hash of a status that the API server does not take for the object as it is.
    refused: Option<u64>,
    written: Option<Instant>,
}

/// Since when a condition is in its state: as it is shown, if it is shown so.
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
            verdict: Verdict::Accepted(0),
            version: 0,
            live: None,
            accepted: None,
            distributed: None,
            in_flight: false,
            refused: None,
            written: None,
        }
    }

    pub(super) fn observe(&mut self, verdict: Verdict, live: Option<Box<Live>>) {
        if let Verdict::Accepted(version) = &verdict {
            self.version = *version;
        }
        self.verdict = verdict;
        if let Some(live) = live {
            self.shows(live);
        }
    }

    fn shows(&mut self, live: Box<Live>) {
        self.refused = None;
        self.live = Some(live);
    }

    pub(super) const fn collection(&self) -> &'static Collection {
        self.collection
    }

    pub(super) const fn version(&self) -> u64 {
        self.version
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

    /// When the statement is to be written; `None` if it need not, or not now.
    pub(super) fn consider(&mut self, statement: &Statement, now: Now) -> Option<Instant> {
        let shown = self.live.as_ref().map(|live| &live.shown);
        let times = shown.map(|shown| (shown.accepted, shown.distributed));
        let (accepted, distributed) = times.unwrap_or_default();
        let said = statement.accepted.as_ref();
        self.accepted = dated(self.accepted, accepted, said, now);
        let said = statement.distributed.as_ref();
        self.distributed = dated(self.distributed, distributed, said, now);
        let shown = shown?.digest;
        let Digest { full, gist } = statement.digest();
        if self.in_flight || full == shown.full || self.refused == Some(full) {
            return None;
        }
        let now = now.monotonic;
        if gist == shown.gist {
            let earliest = self.written.map(|written| written + COUNTS_INTERVAL);
            return Some(earliest.unwrap_or(now).max(now));
        }
        Some(now)
    }

    /// The status as JSON.
    pub(super) fn status(&self, statement: &Statement) -> Value {
        let live = self.live.as_ref();
        let others = live.and_then(|live| live.shown.others.as_deref());
        patch::status(statement, self.accepted, self.distributed, others)
    }

    /// The status to write; `None` for an object of a file.
    pub(super) fn begin(&mut self, statement: &Statement) -> Option<(&Live, Value)> {
        let status = self.status(statement);
        self.in_flight = true;
        Some((self.live.as_deref()?, status))
    }

    pub(super) fn done(&mut self, write: &Write, outcome: Outcome, now: Now) {
        self.in_flight = false;
        let Some(live) = &self.live else {
            return;
        };
        // What was seen meanwhile is newer.
        let is_current = live.resource_version == write.resource_version;
        match outcome {
            Outcome::Written(resource_version, shown) => {
                self.written = Some(now.monotonic);
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
