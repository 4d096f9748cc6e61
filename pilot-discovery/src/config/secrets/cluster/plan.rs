//! What is to be asked and followed, and what is known of each account. Time comes in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Duration,
};

use mesh_common::backoff::Backoff;
use pilot_model::credential::Account;
use tokio::time::Instant;

/// Answers about accounts without gateways that are kept until their time is over. More are
/// forgotten at once.
const SPARE: usize = 1024;

/// How long things last.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// An account that may read Secrets is asked about again after this.
    pub allowed: Duration,
    /// One that may not.
    pub denied: Duration,
    /// Between two questions that were not answered: first and longest.
    pub retry: (Duration, Duration),
    /// A namespace is followed for so long after its last gateway left.
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

/// What is to be done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Action {
    /// Whether the account may list the Secrets of its namespace.
    Ask(Account),
    /// Follow the Secrets of a namespace.
    Start(Arc<str>),
    /// Follow them no more, and forget them.
    Stop(Arc<str>),
    /// This is known of the account now.
    Tell(Account, Option<bool>),
}

#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Timer {
    /// Ask about it again, or forget it.
    Account(Account),
    Namespace(Arc<str>),
}

#[derive(Debug)]
struct Known {
    has_gateways: bool,
    /// The last answer.
    answer: Option<bool>,
    /// When to ask again; `None` while it is asked.
    due: Option<Instant>,
    backoff: Backoff,
    /// What was said of it last.
    reported: Option<bool>,
}

impl Known {
    /// Its namespace is followed for its sake.
    fn is_user(&self) -> bool {
        self.has_gateways && self.answer == Some(true)
    }
}

#[derive(Debug, Default)]
struct Namespace {
    /// Accounts with gateways that may read its Secrets.
    users: usize,
    /// They were listed, or could not be.
    is_listed: bool,
    /// When it was not followed for long enough.
    ends: Option<Instant>,
}

/// The state. Every method leaves what is to be done in [`Plan::take`].
#[derive(Debug)]
pub(super) struct Plan {
    timing: Timing,
    accounts: BTreeMap<Account, Known>,
    namespaces: BTreeMap<Arc<str>, Namespace>,
    timers: BTreeSet<(Instant, Timer)>,
    /// Accounts without gateways.
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

    /// What is to be done, in order.
    pub(super) fn take(&mut self) -> Vec<Action> {
        std::mem::take(&mut self.actions)
    }

    /// When [`Plan::tick`] has something to do.
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

    /// The last gateway of an account left.
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

    /// The API server answered; `None` when it did not.
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
            // The last answer stays.
            None => known.backoff.next(),
        };
        let due = now + pause;
        // It may have been forgotten and asked about again: the later answer counts.
        if let Some(before) = known.due.replace(due) {
            self.timers
                .remove(&(before, Timer::Account(account.clone())));
        }
        self.timers.insert((due, Timer::Account(account.clone())));
        self.count(account, was_user, now);
    }

    /// The Secrets of a namespace were listed for the first time, or could not be.
    pub(super) fn listed(&mut self, namespace: &Arc<str>) {
        if let Some(followed) = self.namespaces.get_mut(namespace)
            && !followed.is_listed
        {
            followed.is_listed = true;
            self.tell_all(namespace);
        }
    }

    /// Does what is due.
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

    /// Follows the namespace for as long as somebody may see it, after something of the account
    /// changed.
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

    /// Says what is known, if it is something else than before. Nothing is said of an account that
    /// may see Secrets until they are there: its gateways are sent all of them at once.
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
