//! What is known of the namespaces and what is to be done: pure, time is an argument.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::time::{Duration, Instant};

/// Namespaces that get nothing, as in Istio.
const EXCLUDED: [&str; 3] = ["kube-node-lease", "kube-public", "local-path-storage"];

/// Attempts that follow each other quickly; the first is repeated after [`QUICK`], and then after
/// twice the time.
const QUICK_ATTEMPTS: u32 = 5;
const QUICK: Duration = Duration::from_millis(5);

/// After those, attempts are this far apart.
const SLOW: Duration = Duration::from_secs(60);

/// What a namespace has under the name of the ConfigMap.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Map {
    #[default]
    Absent,
    /// With the root.
    Right,
    /// With something else.
    Wrong,
}

/// A ConfigMap that was written is not written again before: somebody may write another root as
/// often as we do.
const REST: Duration = Duration::from_secs(1);

/// A namespace. Small: there are many.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    /// The namespace is there and stays.
    is_active: bool,
    map: Map,
    /// Lists in which namespace and ConfigMap were last.
    listed: (u32, u32),
}

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Board {
    entries: HashMap<Box<str>, Entry>,
    /// Numbers of the present lists of namespaces and of ConfigMaps, and whether one was complete.
    lists: (u32, u32),
    complete: (bool, bool),
    due: BTreeSet<Box<str>>,
    /// Namespaces that somebody works on.
    busy: BTreeSet<Box<str>>,
    delayed: BTreeSet<(Instant, Box<str>)>,
    /// Attempts that failed.
    attempts: BTreeMap<Box<str>, u32>,
    /// What was written lately, and until when it rests.
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

    /// A namespace is there; not active when it is about to go.
    pub(super) fn namespace(&mut self, name: &str, is_active: bool) {
        let list = self.lists.0;
        self.change(name, |entry| {
            entry.is_active = is_active;
            entry.listed.0 = list;
        });
    }

    /// A namespace is gone.
    pub(super) fn namespace_gone(&mut self, name: &str) {
        self.change(name, |entry| entry.is_active = false);
    }

    /// The list is complete: what was not in it is gone.
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

    /// A namespace has the ConfigMap, with the root or with something else.
    pub(super) fn map(&mut self, namespace: &str, is_right: bool) {
        let list = self.lists.1;
        self.change(namespace, |entry| {
            entry.map = if is_right { Map::Right } else { Map::Wrong };
            entry.listed.1 = list;
        });
    }

    /// A namespace has it no more.
    pub(super) fn map_gone(&mut self, namespace: &str) {
        self.change(namespace, |entry| entry.map = Map::Absent);
    }

    /// The list is complete: what was not in it is gone.
    pub(super) fn maps_end(&mut self) {
        let list = self.lists.1;
        for name in self.names(|entry| entry.map != Map::Absent && entry.listed.1 != list) {
            self.map_gone(&name);
        }
        self.complete.1 = true;
    }

    /// What was right is not any more.
    pub(super) fn root_changed(&mut self) {
        for name in self.names(|entry| entry.map == Map::Right) {
            self.change(&name, |entry| entry.map = Map::Wrong);
        }
    }

    fn names(&self, test: impl Fn(&Entry) -> bool) -> Vec<Box<str>> {
        let found = self.entries.iter().filter(|(_, entry)| test(entry));
        found.map(|(name, _)| name.clone()).collect()
    }

    /// The next namespace to work on, and whether it has the ConfigMap. Nothing before everything
    /// was listed: what is there is not to be made.
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

    /// It has the root. `is_right`: that is still the same; `is_new`: it was written now.
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

    /// It did not work. `is_final`: the next attempts would end in the same way.
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

    /// Somebody could not ask: as if it had not been tried.
    pub(super) fn postponed(&mut self, name: &str) {
        self.busy.remove(name);
        if self.is_wanted(name) {
            self.due.insert(name.into());
        }
    }

    /// When the next one is to be tried again.
    pub(super) fn wake(&self) -> Option<Instant> {
        self.delayed.first().map(|(at, _)| *at)
    }
}

#[cfg(test)]
mod tests;
