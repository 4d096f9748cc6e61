//! Objects whose status is to be written, each once, the longest waiting first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::Id;

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeSet<(Instant, Id)>,
    since: BTreeMap<Id, Instant>,
}

impl Queue {
    /// Adds an object; one that waits already keeps its place.
    pub(super) fn add(&mut self, id: &Id, now: Instant) {
        if !self.since.contains_key(id) {
            self.since.insert(id.clone(), now);
            self.order.insert((now, id.clone()));
        }
    }

    pub(super) fn remove(&mut self, id: &Id) {
        if let Some(since) = self.since.remove(id) {
            self.order.remove(&(since, id.clone()));
        }
    }

    /// Takes the one that has been waiting longest.
    pub(super) fn pop(&mut self) -> Option<Id> {
        let (_, id) = self.order.pop_first()?;
        self.since.remove(&id);
        Some(id)
    }

    pub(super) fn holds(&self, id: &Id) -> bool {
        self.since.contains_key(id)
    }

    pub(super) fn len(&self) -> usize {
        self.since.len()
    }
}
