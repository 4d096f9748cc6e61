//! State of the namespaces and the pending work: pure, the time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Namespaces that get no ConfigMap, as in Istio.
const EXCLUDED: [&str; 3] = ["kube-node-lease", "kube-public", "local-path-storage"];

/// Number of attempts in quick succession: the first delay is [`QUICK`], and each further one is
/// twice as long.
const QUICK_ATTEMPTS: u32 = 5;
const QUICK: Duration = Duration::from_millis(5);

/// Delay between the attempts after those.
const SLOW: Duration = Duration::from_secs(60);

/// State of the ConfigMap in a namespace.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Map {
    #[default]
    Absent,
    /// It holds the current root.
    Right,
    /// It holds something else.
    Wrong,
}

/// Minimum time between two writes of a ConfigMap, in case another writer keeps changing it.
const REST: Duration = Duration::from_secs(1);

/// A namespace; kept small, as there may be many.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The namespace exists and is not being deleted.
    is_active: bool,
    map: Map,
    /// Numbers of the last lists that contained the namespace and the ConfigMap.
    listed: (u32, u32),
}

/// State of all namespaces.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: HashMap<Box<str>, Entry>,
    /// Numbers of the current lists of namespaces and ConfigMaps, and whether each kind was listed
    /// completely.
    lists: (u32, u32),
    complete: (bool, bool),
    due: BTreeSet<Box<str>>,
    /// Namespaces with a write in progress.
    busy: BTreeSet<Box<str>>,
    delayed: BTreeSet<(Instant, Box<str>)>,
    /// Number of failed attempts.
    attempts: BTreeMap<Box<str>, u32>,
    /// Namespaces that were written recently, and until when they are not written again.
    resting: BTreeMap<Box<str>, Instant>,
}

impl Entry {
    fn is_wanted(self, name: &str) -> bool {
        self.is_active && self.map != Map::Right && !EXCLUDED.contains(&name)
    }

    fn is_nothing(self) -> bool {
        !self.is_active && self.map == Map::Absent
    }
}

impl Board {
    fn change(&mut self, name: &str, change: impl FnOnce(&mut Entry)) {
        let mut entry = self.entries.get(name).copied().unwrap_or_default();
        change(&mut entry);
        if entry.is_nothing() {
            self.entries.remove(name);
        } else {
            self.entries.insert(name.into(), entry);
        }
        if entry.is_wanted(name) {
            self.due.insert(name.into());
        } else {
            self.due.remove(name);
            self.attempts.remove(name);
        }
    }

    /// A list of namespaces begins.
    pub(super) fn namespaces_begin(&mut self) {
        self.lists.0 += 1;
    }

    /// A namespace exists; it is not active while it is being deleted.
    pub(super) fn namespace(&mut self, name: &str, is_active: bool) {
        let list = self.lists.0;
        self.change(name, |entry| {
            entry.is_active = is_active;
            entry.listed.0 = list;
        });
    }

    /// A namespace was deleted.
    pub(super) fn namespace_gone(&mut self, name: &str) {
        self.change(name, |entry| entry.is_active = false);
    }

    /// The list is complete: namespaces that it did not contain were deleted.
    pub(super) fn namespaces_end(&mut self) {
        let list = self.lists.0;
        for name in self.names(|entry| entry.is_active && entry.listed.0 != list) {
            self.namespace_gone(&name);
        }
        self.complete.0 = true;
    }

    /// A list of ConfigMaps begins.
    pub(super) fn maps_begin(&mut self) {
        self.lists.1 += 1;
    }

    /// A namespace has the ConfigMap, with the current root or with something else.
    pub(super) fn map(&mut self, namespace: &str, is_right: bool) {
        let list = self.lists.1;
        self.change(namespace, |entry| {
            entry.map = if is_right { Map::Right } else { Map::Wrong };
            entry.listed.1 = list;
        });
    }

    /// The ConfigMap of a namespace was deleted.
    pub(super) fn map_gone(&mut self, namespace: &str) {
        self.change(namespace, |entry| entry.map = Map::Absent);
    }

    /// The list is complete: ConfigMaps that it did not contain were deleted.
    pub(super) fn maps_end(&mut self) {
        let list = self.lists.1;
        for name in self.names(|entry| entry.map != Map::Absent && entry.listed.1 != list) {
            self.map_gone(&name);
        }
        self.complete.1 = true;
    }

    /// The root has changed: no ConfigMap is up to date.
    pub(super) fn root_changed(&mut self) {
        for name in self.names(|entry| entry.map == Map::Right) {
            self.change(&name, |entry| entry.map = Map::Wrong);
        }
    }

    fn names(&self, test: impl Fn(&Entry) -> bool) -> Vec<Box<str>> {
        let found = self.entries.iter().filter(|(_, entry)| test(entry));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// The next namespace to write and whether its ConfigMap exists. `None` before everything was
    /// listed, as existing ConfigMaps must not be created again.
    pub(super) fn next(&mut self, now: Instant) -> Option<(Box<str>, bool)> {
        if !(self.complete.0 && self.complete.1) {
            return None;
        }
        while self.delayed.first().is_some_and(|(at, _)| *at <= now) {
            if let Some((_, name)) = self.delayed.pop_first()
                && self.is_wanted(&name)
            {
                self.due.insert(name);
            }
        }
        self.resting.retain(|_, until| *until > now);
        while let Some((name, until)) = self.due_and_resting() {
            self.due.remove(&name);
            self.delayed.insert((until, name));
        }
        let name = self.due.iter().find(|name| !self.busy.contains(*name));
        let name = name.cloned()?;
        self.due.remove(&name);
        self.busy.insert(name.clone());
        let entry = self.entries.get(&name);
        let is_there = entry.is_some_and(|entry| entry.map != Map::Absent);
        Some((name, is_there))
    }

    fn due_and_resting(&self) -> Option<(Box<str>, Instant)> {
        let mut resting = self.resting.iter();
        let (name, until) = resting.find(|(name, _)| self.due.contains(*name))?;
        Some((name.clone(), *until))
    }

    fn is_wanted(&self, name: &str) -> bool {
        let entry = self.entries.get(name);
        entry.is_some_and(|entry| entry.is_wanted(name))
    }

    /// The ConfigMap was written. `is_right`: with the root that is still current; `is_new`:
    /// something was changed.
    pub(super) fn done(&mut self, name: &str, is_right: bool, is_new: bool, now: Instant) {
        self.busy.remove(name);
        self.attempts.remove(name);
        if is_new {
            self.resting.insert(name.into(), now + REST);
        }
        if self.entries.contains_key(name) {
            self.map(name, is_right);
        }
    }

    /// The write failed. `is_final`: a quick retry would fail in the same way.
    pub(super) fn failed(&mut self, name: &str, is_final: bool, now: Instant) {
        self.busy.remove(name);
        if !self.is_wanted(name) {
            return;
        }
        let attempts = self.attempts.entry(name.into()).or_default();
        *attempts += 1;
        let delay = if is_final || *attempts >= QUICK_ATTEMPTS {
            SLOW
        } else {
            QUICK * 2u32.pow(*attempts - 1)
        };
        self.due.remove(name);
        self.delayed.insert((now + delay, name.into()));
    }

    /// The API server was unreachable: does not count as an attempt.
    pub(super) fn postponed(&mut self, name: &str) {
        self.busy.remove(name);
        if self.is_wanted(name) {
            self.due.insert(name.into());
        }
    }

    /// Time of the next retry.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;
