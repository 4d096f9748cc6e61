//! What is known of one object.

use istio_api::collections::Collection;
use serde_json::Value;

use super::{Live, Now, Outcome, Write};
use crate::status::desired::{Since, Statement, since};
use crate::status::observation::Verdict;
use crate::status::patch;

#[derive(Debug)]
pub(super) struct Row {
    collection: &'static Collection,
    verdict: Verdict,
    /// How the API server has it; `None` for an object of a file.
    live: Option<Box<Live>>,
    accepted: Option<Since>,
    in_flight: bool,
    /// Hash of a status that the API server does not take for the object as it is.
    refused: Option<u64>,
}

impl Row {
    pub(super) fn new(collection: &'static Collection) -> Self {
        Self {
            collection,
            verdict: Verdict::Accepted,
            live: None,
            accepted: None,
            in_flight: false,
            refused: None,
        }
    }

    pub(super) fn observe(&mut self, verdict: Verdict, live: Option<Box<Live>>) {
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

    pub(super) const fn verdict(&self) -> &Verdict {
        &self.verdict
    }

    pub(super) fn generation(&self) -> Option<i64> {
        self.live.as_ref()?.generation
    }

    /// Whether the statement is to be written now.
    pub(super) fn consider(&mut self, statement: &Statement, now: Now) -> bool {
        let shown = self.live.as_ref().map(|live| &live.shown);
        if let Some(said) = &statement.accepted {
            // What is shown counts, if it is shown so.
            let shown = shown.and_then(|shown| shown.accepted);
            let shown = shown.filter(|(state, _)| *state == said.state);
            self.accepted = Some(since(shown.or(self.accepted), said.state, now.wall));
        }
        let digest = statement.digest();
        let is_wrong = shown.is_some_and(|shown| shown.digest != digest);
        is_wrong && !self.in_flight && self.refused != Some(digest)
    }

    /// The status as JSON.
    pub(super) fn status(&self, statement: &Statement) -> Value {
        let live = self.live.as_ref();
        let others = live.and_then(|live| live.shown.others.as_deref());
        patch::status(statement, self.accepted, others)
    }

    /// The status to write; `None` for an object of a file.
    pub(super) fn begin(&mut self, statement: &Statement) -> Option<(&Live, Value)> {
        let status = self.status(statement);
        self.in_flight = true;
        Some((self.live.as_deref()?, status))
    }

    pub(super) fn done(&mut self, write: &Write, outcome: Outcome) {
        self.in_flight = false;
        let Some(live) = &self.live else {
            return;
        };
        // What was seen meanwhile is newer.
        let is_current = live.resource_version == write.resource_version;
        match outcome {
            Outcome::Written(resource_version, shown) => {
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
