//! All objects with what is known of them, and those whose status is to be written: pure, time is
//! an argument.

mod queue;
mod row;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use istio_api::collections::Collection;
use istio_api::manifest::Key;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::analysis::{Finding, Findings, collection};
use super::desired::{Facts, Statement, desired, nothing};
use super::observation::{Live, Observation, Verdict};
use super::patch;
use super::shown::Shown;
use queue::Queue;
use row::Row;

/// The time, as clocks that never go back have it and as people write it.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic: Instant,
    pub(super) wall: Timestamp,
}

/// An object of a file. In a cluster each object is a file.
pub(super) type Id = (Key, Arc<Path>);

/// A status to write.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) id: Id,
    pub(super) collection: &'static Collection,
    pub(super) api_version: &'static str,
    /// Version of the object that it is for.
    pub(super) resource_version: Box<str>,
    /// A merge patch.
    pub(super) patch: Value,
    /// Hash of what is said.
    digest: u64,
}

/// What became of a write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The object as it is now: its version and its status.
    Written(Box<str>, Shown),
    /// This status cannot be written to the object in this state of it.
    Refused,
    /// Nothing is known; it is to be tried again.
    Lost,
}

/// What is known of all objects.
#[derive(Debug)]
pub(super) struct Board {
    rows: BTreeMap<Id, Row>,
    /// What each file holds.
    files: BTreeMap<Arc<Path>, BTreeSet<Key>>,
    findings: Option<Arc<Findings>>,
    synced: bool,
    queue: Queue,
}

impl Board {
    pub(super) fn new() -> Self {
        Self {
            rows: BTreeMap::new(),
            files: BTreeMap::new(),
            findings: None,
            synced: false,
            queue: Queue::default(),
        }
    }

    /// Takes what happened to a file.
    pub(super) fn observe(&mut self, observation: Observation, now: Now) {
        match observation {
            Observation::Read {
                path,
                objects,
                obscured,
                live,
            } => self.read(&path, objects, obscured.as_ref(), live, now),
            Observation::Unusable(path, why) => {
                for key in self.files.get(&path).cloned().unwrap_or_default() {
                    let verdict = Verdict::Refused(why.clone());
                    self.set((key, path.clone()), verdict, None, now);
                }
            }
            Observation::Removed(path) => {
                for key in self.files.remove(&path).unwrap_or_default() {
                    self.remove((key, path.clone()), now);
                }
            }
            Observation::Synced => {
                self.synced = true;
                self.consider_all(now);
            }
        }
    }

    fn read(
        &mut self,
        path: &Arc<Path>,
        objects: Vec<(Key, Verdict)>,
        obscured: Option<&Arc<str>>,
        mut live: Option<Box<Live>>,
        now: Now,
    ) {
        let mut former = self.files.remove(path).unwrap_or_default();
        let mut held = BTreeSet::new();
        for (key, verdict) in objects {
            former.remove(&key);
            held.insert(key.clone());
            self.set((key, path.clone()), verdict, live.take(), now);
        }
        for key in former {
            let id = (key.clone(), path.clone());
            match obscured {
                Some(why) => {
                    held.insert(key);
                    self.set(id, Verdict::Refused(why.clone()), live.take(), now);
                }
                None => self.remove(id, now),
            }
        }
        if !held.is_empty() {
            self.files.insert(path.clone(), held);
        }
    }

    fn set(&mut self, id: Id, verdict: Verdict, live: Option<Box<Live>>, now: Now) {
        let Some(collection) = collection(&id.0) else {
            return;
        };
        let row = self
            .rows
            .entry(id.clone())
            .or_insert_with(|| Row::new(collection));
        row.observe(verdict, live);
        self.consider_key(&id.0, now);
    }

    fn remove(&mut self, id: Id, now: Now) {
        self.rows.remove(&id);
        self.queue.remove(&id);
        self.consider_key(&id.0, now);
    }

    /// Takes the result of an analysis.
    pub(super) fn analyzed(&mut self, findings: Arc<Findings>, now: Now) {
        let Some(before) = self.findings.replace(findings.clone()) else {
            self.consider_all(now);
            return;
        };
        let changed = |key: &&Key| before.get(*key) != findings.get(*key);
        let keys: BTreeSet<&Key> = before.keys().chain(findings.keys()).collect();
        let keys: Vec<Key> = keys.into_iter().filter(changed).cloned().collect();
        keys.iter().for_each(|key| self.consider_key(key, now));
    }

    /// Whichever file it is in: the first one counts.
    fn consider_key(&mut self, key: &Key, now: Now) {
        let first: Id = (key.clone(), Path::new("").into());
        let ids = self.rows.range(first..).map(|(id, _)| id);
        let ids: Vec<Id> = ids.take_while(|id| id.0 == *key).cloned().collect();
        ids.iter().for_each(|id| self.consider(id, now));
    }

    fn consider_all(&mut self, now: Now) {
        let ids: Vec<Id> = self.rows.keys().cloned().collect();
        ids.iter().for_each(|id| self.consider(id, now));
    }

    /// Everything that a status is made from has been heard of once.
    pub(super) fn is_ready(&self) -> bool {
        self.synced && self.findings.is_some()
    }

    /// Notes since when an object is accepted or not, and whether its status is to be written.
    fn consider(&mut self, id: &Id, now: Now) {
        if !self.is_ready() {
            return;
        }
        let Some(statement) = self.statement(id) else {
            return;
        };
        let Some(row) = self.rows.get_mut(id) else {
            return;
        };
        if row.consider(&statement, now) {
            self.queue.add(id, now.monotonic);
        } else {
            self.queue.remove(id);
        }
    }

    /// What the status of an object should say.
    fn statement(&self, id: &Id) -> Option<Statement> {
        let row = self.rows.get(id)?;
        let none = nothing();
        let findings = self.findings(&id.0).unwrap_or(&none);
        Some(desired(&Facts {
            generation: row.generation(),
            verdict: row.verdict(),
            shadowed_by: self.shadow(id),
            findings,
        }))
    }

    fn findings(&self, key: &Key) -> Option<&Arc<[Finding]>> {
        self.findings.as_ref()?.get(key)
    }

    /// The file whose object of this identity counts instead.
    fn shadow(&self, (key, path): &Id) -> Option<String> {
        let first: Id = (key.clone(), Path::new("").into());
        let (id, _) = self.rows.range(first..).next()?;
        (id.0 == *key && id.1 != *path).then(|| id.1.display().to_string())
    }

    /// The status that has been waiting longest. Until [`Self::done`] the object is
    /// left alone.
    pub(super) fn next(&mut self, now: Now) -> Option<Write> {
        while let Some(id) = self.queue.pop() {
            // It may be right again.
            self.consider(&id, now);
            if self.queue.holds(&id)
                && let Some(write) = self.begin(&id)
            {
                self.queue.remove(&id);
                return Some(write);
            }
        }
        None
    }

    fn begin(&mut self, id: &Id) -> Option<Write> {
        let statement = self.statement(id)?;
        let row = self.rows.get_mut(id)?;
        let collection = row.collection();
        let (live, status) = row.begin(&statement)?;
        Some(Write {
            id: id.clone(),
            collection,
            api_version: live.api_version,
            resource_version: live.resource_version.clone(),
            patch: patch::merge(status, &live.resource_version),
            digest: statement.digest(),
        })
    }

    /// Takes what became of a write.
    pub(super) fn done(&mut self, write: &Write, outcome: Outcome, now: Now) {
        if let Some(row) = self.rows.get_mut(&write.id) {
            row.done(write, outcome);
            self.consider(&write.id, now);
        }
    }

    /// Objects whose status is to be written.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Every object with what its status should be, for pages.
    pub(super) fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        self.rows.iter().filter_map(|(id, row)| {
            let statement = self.statement(id)?;
            let findings = self.findings(&id.0);
            Some(Listed {
                id,
                status: row.status(&statement),
                findings: findings.map_or(&[], |findings| findings),
                is_waiting: self.queue.holds(id),
            })
        })
    }
}

/// An object, for pages.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    pub(super) id: &'a Id,
    pub(super) status: Value,
    pub(super) findings: &'a [Finding],
    pub(super) is_waiting: bool,
}

#[cfg(test)]
mod tests;
