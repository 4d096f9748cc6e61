//! Which accounts to ask about and which namespaces to follow. Pure: time is an argument.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mesh_common::backoff::Backoff;
use pilot_model::credential::Account;
use tokio::time::Instant;

/// Number of answers about accounts without gateways that are kept until they expire. Further ones
/// are dropped at once.
const SPARE: usize = 1024;

/// Durations.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// Time until an account that may read Secrets is reviewed again.
    pub allowed: Duration,
    /// The same for an account that may not.
    pub denied: Duration,
    /// Delay after a review without an answer: first and longest.
    pub retry: (Duration, Duration),
    /// How long a namespace is followed after its last gateway disconnected.
    pub linger: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            allowed: Duration::from_secs(300),
            denied: Duration::from_secs(60),
            retry: (Duration::from_secs(1), Duration::from_secs(20)),
            linger: Duration::from_secs(60),
        }
    }
}

/// An instruction to the caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Ask whether the account may list the Secrets of its namespace.
    Ask(Account),
    /// Follow the Secrets of a namespace.
    Start(Arc<str>),
    /// Stop following the namespace, and forget its Secrets.
    Stop(Arc<str>),
    /// Report what is known about the account; `None`: unknown.
    Tell(Account, Option<bool>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Review the account again, or forget it.
    Account(Account),
    Namespace(Arc<str>),
}

#[derive(Debug)]
struct Known {
    has_gateways: bool,
    /// The last answer.
    answer: Option<bool>,
    /// When to ask again; `None` while a review is in progress.
    due: Option<Instant>,
    backoff: Backoff,
    /// The last report.
    reported: Option<bool>,
}

impl Known {
    /// Whether its namespace is followed because of it.
    fn is_user(&self) -> bool {
        self.has_gateways && self.answer == Some(true)
    }
}

#[derive(Debug, Default)]
struct Namespace {
    /// Number of accounts with gateways that may read its Secrets.
    users: usize,
    /// Whether its Secrets were listed, or listing failed.
    is_listed: bool,
    /// When to stop following it, while it has no users.
    ends: Option<Instant>,
}

/// The state. Every method adds its instructions to those of [`Plan::take`].
#[derive(Debug)]
pub(super) struct Plan {
    timing: Timing,
    accounts: BTreeMap<Account, Known>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    timers: BTreeSet<(Instant, Timer)>,
    /// Number of accounts without gateways.
    spare: usize,
    actions: Vec<Action>,
}

impl Plan {
    pub(super) fn new(timing: Timing) -> Self {
        Self {
            timing,
            accounts: BTreeMap::new(),
            namespaces: BTreeMap::new(),
            timers: BTreeSet::new(),
            spare: 0,
            actions: Vec::new(),
        }
    }

    /// Returns the pending instructions, in order.
    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Plan::tick`] is due next.
    pub(super) fn next(&self) -> Option<Instant> {
        self.timers.first().map(|(at, _)| *at)
    }

    /// The first gateway of an account connected.
    pub(super) fn joined(&mut self, account: &Account, now: Instant) {
        match self.accounts.get_mut(account) {
            Some(known) if known.has_gateways => return,
            Some(known) => {
                known.has_gateways = true;
                self.spare -= 1;
            }
            None => {
                let known = Known {
                    has_gateways: true,
                    answer: None,
                    due: None,
                    backoff: Backoff::new(self.timing.retry.0, self.timing.retry.1),
                    reported: None,
                };
                self.accounts.insert(account.clone(), known);
                self.actions.push(Action::Ask(account.clone()));
            }
        }
        self.count(account, false, now);
    }

    /// The last gateway of an account disconnected.
    pub(super) fn left(&mut self, account: &Account, now: Instant) {
        let Some(known) = self.accounts.get_mut(account) else {
            return;
        };
        if !known.has_gateways {
            return;
        }
        let was_user = known.is_user();
        known.has_gateways = false;
        self.spare += 1;
        self.count(account, was_user, now);
        if self.spare > SPARE {
            self.forget(account);
        }
    }

    /// The API server answered; `None` if it did not.
    pub(super) fn answered(&mut self, account: &Account, answer: Option<bool>, now: Instant) {
        let Some(known) = self.accounts.get_mut(account) else {
            return;
        };
        let was_user = known.is_user();
        let pause = match answer {
            Some(is_allowed) => {
                known.answer = answer;
                known.backoff.reset();
                if is_allowed {
                    self.timing.allowed
                } else {
                    self.timing.denied
                }
            }
            // The last answer stays in force.
            None => known.backoff.next(),
        };
        let due = now + pause;
        // It may have been forgotten and asked about again meanwhile: the later answer counts.
        if let Some(before) = known.due.replace(due) {
            self.timers
                .remove(&(before, Timer::Account(account.clone())));
        }
        self.timers.insert((due, Timer::Account(account.clone())));
        self.count(account, was_user, now);
    }

    /// The Secrets of a namespace were listed for the first time, or listing failed.
    pub(super) fn listed(&mut self, namespace: &Arc<str>) {
        if let Some(followed) = self.namespaces.get_mut(namespace)
            && !followed.is_listed
        {
            followed.is_listed = true;
            self.tell_all(namespace);
        }
    }

    /// Performs what is due.
    pub(super) fn tick(&mut self, now: Instant) {
        while self.next().is_some_and(|at| at <= now) {
            match self.timers.pop_first() {
                Some((_, Timer::Account(account))) => self.is_due(&account),
                Some((_, Timer::Namespace(namespace))) => {
                    self.namespaces.remove(&namespace);
                    self.tell_all(&namespace);
                    self.actions.push(Action::Stop(namespace));
                }
                None => {}
            }
        }
    }

    fn is_due(&mut self, account: &Account) {
        let Some(known) = self.accounts.get_mut(account) else {
            return;
        };
        known.due = None;
        if known.has_gateways {
            self.actions.push(Action::Ask(account.clone()));
        } else {
            self.forget(account);
        }
    }

    fn forget(&mut self, account: &Account) {
        let Some(known) = self.accounts.remove(account) else {
            return;
        };
        self.spare -= 1;
        if let Some(due) = known.due {
            self.timers.remove(&(due, Timer::Account(account.clone())));
        }
        if known.reported.is_some() {
            self.actions.push(Action::Tell(account.clone(), None));
        }
    }

    /// Updates whether the namespace is followed, after a change of the account.
    fn count(&mut self, account: &Account, was_user: bool, now: Instant) {
        let namespace = &account.namespace;
        let is_user = self.accounts.get(account).is_some_and(Known::is_user);
        if is_user && !was_user {
            if !self.namespaces.contains_key(namespace) {
                self.actions.push(Action::Start(namespace.clone()));
            }
            let followed = self.namespaces.entry(namespace.clone()).or_default();
            followed.users += 1;
            if let Some(ends) = followed.ends.take() {
                self.timers
                    .remove(&(ends, Timer::Namespace(namespace.clone())));
            }
        } else if was_user
            && !is_user
            && let Some(followed) = self.namespaces.get_mut(namespace)
        {
            followed.users -= 1;
            if followed.users == 0 {
                let ends = now + self.timing.linger;
                followed.ends = Some(ends);
                self.timers
                    .insert((ends, Timer::Namespace(namespace.clone())));
            }
        }
        self.tell(account);
    }

    /// Reports what is known, if it changed. That an account may read Secrets is reported only once
    /// they are listed: its gateways then receive all of them at once.
    fn tell(&mut self, account: &Account) {
        let followed = self.namespaces.get(&account.namespace);
        let is_listed = followed.is_some_and(|followed| followed.is_listed);
        if let Some(known) = self.accounts.get_mut(account) {
            let right = known.answer.filter(|is_allowed| !is_allowed || is_listed);
            if known.reported != right {
                known.reported = right;
                self.actions.push(Action::Tell(account.clone(), right));
            }
        }
    }

    fn tell_all(&mut self, namespace: &Arc<str>) {
        let first = Account::new(namespace, "");
        let accounts = self.accounts.range(first..).map(|(account, _)| account);
        let accounts = accounts.take_while(|account| account.namespace == *namespace);
        for account in accounts.cloned().collect::<Vec<_>>() {
            self.tell(&account);
        }
    }
}

#[cfg(test)]
mod tests;
