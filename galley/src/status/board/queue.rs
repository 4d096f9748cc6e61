//! Objects whose status must be written, each once, the longest waiting first.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Instant;

use super::Id;

#[derive(Debug, Default)]
pub(super) struct Queue {
    order: BTreeSet<(Instant, Id)>,
    due: BTreeMap<Id, Instant>,
}

impl Queue {
    /// Adds an object; one that is already queued keeps its place unless the new time is earlier.
    pub(super) fn add(&mut self, id: &Id, due: Instant) {
        if let Some(known) = self.due.get(id) {
            if *known <= due {
                return;
            }
            self.order.remove(&(*known, id.clone()));
        }
        self.due.insert(id.clone(), due);
        self.order.insert((due, id.clone()));
    }

    pub(super) fn remove(&mut self, id: &Id) {
        if let Some(due) = self.due.remove(id) {
            self.order.remove(&(due, id.clone()));
        }
    }

    pub(super) fn first(&self) -> Option<Instant> {
        self.order.first().map(|(due, _)| *due)
    }

    /// Takes the first object that is due.
    pub(super) fn pop(&mut self, now: Instant) -> Option<Id> {
        self.first().filter(|due| *due <= now)?;
        let (_, id) = self.order.pop_first()?;
        self.due.remove(&id);
        Some(id)
    }

    /// When a queued object is due.
    pub(super) fn due(&self, id: &Id) -> Option<Instant> {
        self.due.get(id).copied()
    }

    pub(super) fn len(&self) -> usize {
        self.due.len()
    }
}
