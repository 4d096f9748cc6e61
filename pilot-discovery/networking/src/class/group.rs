//! A class with the proxies that are in it.

use std::{
    collections::BTreeSet,
    sync::Arc,
    time::{Duration, Instant},
};

use crate::manifest::Manifests;

/// Number of a connection; a proxy that reconnects gets another one.
pub type ProxyId = u64;

/// Identifies a class for as long as it exists; unique over both sides.
pub type ClassId = u64;

/// How long a class without proxies is kept: after a network failure or a restart all of its
/// proxies come back at once.
pub(super) const KEEP_EMPTY: Duration = Duration::from_secs(60);

/// One side of a class: what its proxies see as clients, or what they serve.
pub(super) trait Side {
    fn manifests(&self) -> &Arc<Manifests>;
}

/// A class with its members.
#[derive(Debug)]
pub(super) struct Group<S> {
    pub(super) side: S,
    pub(super) id: ClassId,
    /// Version of the snapshot with which the manifests became what they are.
    pub(super) made: u64,
    members: BTreeSet<ProxyId>,
    /// When the last member left.
    empty_since: Option<Instant>,
}

impl<S: Side> Group<S> {
    pub(super) fn new(side: S, id: ClassId, made: u64) -> Self {
        Self {
            side,
            id,
            made,
            members: BTreeSet::new(),
            empty_since: None,
        }
    }

    pub(super) fn members(&self) -> &BTreeSet<ProxyId> {
        &self.members
    }

    pub(super) fn join(&mut self, proxy: ProxyId) {
        self.members.insert(proxy);
        self.empty_since = None;
    }

    pub(super) fn leave(&mut self, proxy: ProxyId, now: Instant) {
        self.members.remove(&proxy);
        if self.members.is_empty() {
            self.empty_since = Some(now);
        }
    }

    pub(super) fn is_needed(&self, now: Instant) -> bool {
        self.empty_since
            .is_none_or(|since| now.saturating_duration_since(since) < KEEP_EMPTY)
    }

    /// Runs `update`; `true` when it replaced the manifests, if only their provenance.
    pub(super) fn update(&mut self, version: u64, update: impl FnOnce(&mut S)) -> bool {
        let before = self.side.manifests().clone();
        update(&mut self.side);
        let replaced = !Arc::ptr_eq(&before, self.side.manifests());
        if replaced {
            self.made = version;
        }
        replaced
    }

    pub(super) fn state(&self) -> ClassState {
        ClassState {
            id: self.id,
            manifests: self.side.manifests().clone(),
            made: self.made,
        }
    }
}

/// What the proxies of a class are to hold.
#[derive(Clone, Debug)]
pub struct ClassState {
    /// The class.
    pub id: ClassId,
    /// Its resources.
    pub manifests: Arc<Manifests>,
    /// Version of the snapshot with which they became what they are. Each member was given a view
    /// of this version or a newer one.
    pub made: u64,
}
