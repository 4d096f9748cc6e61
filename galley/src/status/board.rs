//! State of all objects, and the queue of those whose status must be written: pure, time is an
//! argument.

mod queue;
mod row;
mod voice;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use istio_api::collections::Collection;
use istio_api::manifest::Key;
use k8s_openapi::jiff::Timestamp;
use serde_json::Value;

use super::analysis::{Finding, Findings, collection};
use super::desired::{Facts, desired, nothing};
use super::distribution::{Report, Reports, Standing, Timing};
use super::observation::{Live, Observation, Verdict};
use super::patch;
use super::shown::Shown;
use super::statement::Statement;
use queue::Queue;
use row::Row;
use voice::Voice;

/// A pilot may report on this many more objects than exist now: it may know of deleted ones.
const UNKNOWN_OBJECTS: usize = 1_000;

/// The current time: monotonic, and as written in a status.
#[derive(Debug, Clone, Copy)]
pub(super) struct Now {
    pub(super) monotonic: Instant,
    pub(super) wall: Timestamp,
}

/// An object in a file. In a cluster each object counts as a file.
pub(super) type Id = (Key, Arc<Path>);

/// A status to write.
#[derive(Debug, Clone)]
pub(super) struct Write {
    pub(super) id: Id,
    pub(super) collection: &'static Collection,
    pub(super) api_version: &'static str,
    /// The `resourceVersion` that the write is for.
    pub(super) resource_version: Box<str>,
    /// A merge patch.
    pub(super) patch: Value,
    /// Hash of the statement.
    digest: u64,
    /// Whether only `Distributed` differs, and not all proxies hold the object yet.
    is_about_numbers: bool,
}

/// The result of a write.
#[derive(Debug)]
pub(super) enum Outcome {
    /// The written object: its version and its status.
    Written(Box<str>, Shown),
    /// This status cannot be written to this state of the object.
    Refused,
    /// The result is unknown; the write is repeated.
    Lost,
}

/// State of all objects.
#[derive(Debug)]
pub(super) struct Board {
    rows: BTreeMap<Id, Row>,
    /// The objects in each file.
    files: BTreeMap<Arc<Path>, BTreeSet<Key>>,
    findings: Option<Arc<Findings>>,
    reports: Reports,
    voice: Voice,
    timing: Timing,
    synced: bool,
    queue: Queue,
}

impl Board {
    pub(super) fn new(timing: Timing, now: Now) -> Self {
        Self {
            reports: Reports::default(),
            voice: Voice::silent(&timing, now),
            timing,
            rows: BTreeMap::new(),
            files: BTreeMap::new(),
            findings: None,
            synced: false,
            queue: Queue::default(),
        }
    }

    /// Applies a change of a file.
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

    /// Applies the result of an analysis.
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

    /// Applies a report of a pilot.
    pub(super) fn reported(&mut self, report: Report, now: Now) {
        let before = self.pilots();
        let room = self.rows.len().saturating_add(UNKNOWN_OBJECTS);
        let keys = self.reports.take(report, room, now.monotonic);
        if before == 0 && self.pilots() > 0 {
            self.voice = self.voice.heard(&self.timing, now);
        }
        self.consider_pilots(before, &keys, now);
    }

    /// A change in the number of pilots also affects objects that they do not report on.
    fn consider_pilots(&mut self, before: usize, keys: &BTreeSet<Key>, now: Now) {
        if self.pilots() == before {
            keys.iter().for_each(|key| self.consider_key(key, now));
        } else {
            self.consider_all(now);
        }
    }

    /// When [`Self::tick`] is due.
    pub(super) fn timer(&self) -> Option<Instant> {
        let grace = self.reports.deadline(self.timing.grace);
        [grace, self.voice.deadline()].into_iter().flatten().min()
    }

    /// Does what is due at this time.
    pub(super) fn tick(&mut self, now: Now) {
        let before = self.pilots();
        let keys = self.reports.expire(self.timing.grace, now.monotonic);
        if before > 0 && self.pilots() == 0 {
            self.voice = Voice::silent(&self.timing, now);
        }
        if self.voice.deadline().is_some_and(|at| at <= now.monotonic) {
            self.voice = Voice::Speaking;
            self.consider_all(now);
            return;
        }
        self.consider_pilots(before, &keys, now);
    }

    /// Number of pilots that report.
    pub(super) fn pilots(&self) -> usize {
        self.reports.pilots()
    }

    /// Number of reports about unknown objects that exceeded the limit.
    pub(super) const fn left_out(&self) -> u64 {
        self.reports.left_out()
    }

    /// The object in every file that defines it: the first one counts.
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

    /// Whether all objects that existed at the start are known.
    pub(super) const fn is_synced(&self) -> bool {
        self.synced
    }

    /// Whether all inputs of a status have arrived once.
    pub(super) fn is_ready(&self) -> bool {
        self.synced && self.findings.is_some()
    }

    /// Records since when the desired status has been different, and queues the object for writing.
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
        match row.consider(&statement, now) {
            Some(due) => self.queue.add(id, due),
            None => self.queue.remove(id),
        }
    }

    /// The desired status of an object.
    fn statement(&self, id: &Id) -> Option<Statement> {
        let row = self.rows.get(id)?;
        let none = nothing();
        let findings = self.findings(&id.0).unwrap_or(&none);
        Some(desired(&Facts {
            generation: row.generation(),
            verdict: row.verdict(),
            shadowed_by: self.shadow(id),
            findings,
            in_force: row.in_force(),
            standing: (!self.voice.is_quiet())
                .then(|| self.standing(id).unwrap_or(Standing::NotReported)),
            shown: row.shown_condition(),
        }))
    }

    /// What pilots report now; `None` if no state of the object is in force.
    fn standing(&self, id: &Id) -> Option<Standing> {
        let state = self.rows.get(id)?.in_force()?;
        Some(self.reports.standing(&id.0, state.version))
    }

    fn findings(&self, key: &Key) -> Option<&Arc<[Finding]>> {
        self.findings.as_ref()?.get(key)
    }

    /// The file whose definition of the same object counts instead.
    fn shadow(&self, (key, path): &Id) -> Option<String> {
        let first: Id = (key.clone(), Path::new("").into());
        let (id, _) = self.rows.range(first..).next()?;
        (id.0 == *key && id.1 != *path).then(|| id.1.display().to_string())
    }

    /// When the next status is due to be written.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.queue.first()
    }

    /// The status that has waited longest, if it is due. The object is not written again until
    /// [`Self::done`].
    pub(super) fn next(&mut self, now: Now) -> Option<Write> {
        while let Some(id) = self.queue.pop(now.monotonic) {
            // It may be right or no longer due meanwhile.
            self.consider(&id, now);
            let due = self.queue.due(&id);
            if due.is_some_and(|due| due <= now.monotonic)
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
        let (live, status, is_about_numbers) = row.begin(&statement)?;
        Some(Write {
            id: id.clone(),
            collection,
            api_version: live.api_version,
            resource_version: live.resource_version.clone(),
            patch: patch::merge(status, &live.resource_version),
            digest: statement.digest().full,
            is_about_numbers,
        })
    }

    /// Applies the result of a write.
    pub(super) fn done(&mut self, write: &Write, outcome: Outcome, now: Now) {
        if let Some(row) = self.rows.get_mut(&write.id) {
            row.done(write, outcome, now);
            self.consider(&write.id, now);
        }
    }

    /// Number of objects whose status waits to be written.
    pub(super) fn waiting(&self) -> usize {
        self.queue.len()
    }

    /// Every object with its desired status, for debug pages.
    pub(super) fn list(&self) -> impl Iterator<Item = Listed<'_>> {
        self.rows.iter().filter_map(|(id, row)| {
            let statement = self.statement(id)?;
            let findings = self.findings(&id.0);
            Some(Listed {
                id,
                status: row.status(&statement),
                findings: findings.map_or(&[], |findings| findings),
                standing: self.standing(id),
                is_waiting: self.queue.due(id).is_some(),
            })
        })
    }
}

/// An object, for debug pages.
#[derive(Debug)]
pub(super) struct Listed<'a> {
    pub(super) id: &'a Id,
    pub(super) status: Value,
    pub(super) findings: &'a [Finding],
    /// What pilots report now.
    pub(super) standing: Option<Standing>,
    pub(super) is_waiting: bool,
}

#[cfg(test)]
mod tests;
