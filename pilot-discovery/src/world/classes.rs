//! The classes that connected proxies belong to.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use imbl::ordmap::DiffItem;
use pilot_model::{
    changes::Changes,
    class::{InboundClass, OutboundClass},
    snapshot::Snapshot,
};
use pilot_networking::{
    class::{cache::Cache, dirt::Dirt, inbound::Inbound, outbound::Outbound},
    gateway::SECRET_ERRORS,
    manifest::Manifests,
    resource::Skipped,
};

/// A class without proxies is kept for so long: after a lost network or a restart of theirs,
/// all of them come back at once.
const PATIENCE: Duration = Duration::from_secs(60);

/// Names a class for as long as it lives; no two have the same, whichever their side.
pub type ClassId = u64;

/// A class with the number of proxies in it.
#[derive(Debug)]
struct Counted<T> {
    class: T,
    id: ClassId,
    /// Version of the snapshot with which its manifests became what they are.
    made: u64,
    members: usize,
    /// When the last of them left.
    deserted: Option<Instant>,
}

impl<T> Counted<T> {
    fn new(class: T, id: ClassId, made: u64) -> Self {
        Self {
            class,
            id,
            made,
            members: 1,
            deserted: None,
        }
    }

    fn join(&mut self) {
        self.members += 1;
        self.deserted = None;
    }

    fn leave(&mut self) {
        self.members -= 1;
        if self.members == 0 {
            self.deserted = Some(Instant::now());
        }
    }

    fn is_needed(&self, now: Instant) -> bool {
        self.deserted
            .is_none_or(|since| now.saturating_duration_since(since) < PATIENCE)
    }
}

/// All classes. A class is made when its first proxy connects and forgotten some time after its
/// last one left.
#[derive(Debug, Default)]
pub struct Classes {
    outbound: BTreeMap<OutboundClass, Counted<Outbound>>,
    inbound: BTreeMap<InboundClass, Counted<Inbound>>,
    cache: Cache,
    last_id: ClassId,
    /// Secrets that were left out since somebody asked.
    missing_secrets: u64,
}

/// Secrets that are left out now, and were not before or for another reason.
fn newly_missing_secrets(before: &Manifests, after: &Manifests) -> u64 {
    let news = before.skipped.diff(&after.skipped).map(|item| match item {
        DiffItem::Add(_, new) => missing_secrets(new).count(),
        DiffItem::Update {
            old: (_, old),
            new: (_, new),
        } => missing_secrets(new)
            .filter(|one| !old.contains(one))
            .count(),
        DiffItem::Remove(..) => 0,
    });
    news.sum::<usize>() as u64
}

fn missing_secrets(skipped: &[Skipped]) -> impl Iterator<Item = &Skipped> {
    skipped.iter().filter(|one| one.metric == SECRET_ERRORS)
}

/// What the proxies of a class are to hold.
#[derive(Clone, Debug)]
pub struct Held {
    pub id: ClassId,
    pub manifests: Arc<Manifests>,
    /// Version of the snapshot with which they became what they are. Whoever is in the class was
    /// given a view of this version or a newer one.
    pub made: u64,
}

impl Classes {
    /// Follows a snapshot in every class; `true` when any manifest changed.
    pub fn update(&mut self, snapshot: &Snapshot, changes: &Changes) -> bool {
        self.sweep();
        let dirt = Dirt::of(snapshot, changes);
        let mut changed = false;
        for counted in self.outbound.values_mut() {
            let before = counted.class.manifests().clone();
            changed |= counted.class.update(snapshot, &dirt, &mut self.cache);
            let after = counted.class.manifests();
            if !Arc::ptr_eq(&before, after) {
                counted.made = snapshot.version;
                if counted.members > 0 {
                    self.missing_secrets += newly_missing_secrets(&before, after);
                }
            }
        }
        for counted in self.inbound.values_mut() {
            let before = counted.class.manifests().clone();
            changed |= counted.class.update(snapshot, changes);
            if !Arc::ptr_eq(&before, counted.class.manifests()) {
                counted.made = snapshot.version;
            }
        }
        changed
    }

    /// What every class holds, whichever its side.
    pub fn held(&self) -> Vec<Held> {
        let outbound = self.outbound.values().map(|counted| Held {
            id: counted.id,
            manifests: counted.class.manifests().clone(),
            made: counted.made,
        });
        let inbound = self.inbound.values().map(|counted| Held {
            id: counted.id,
            manifests: counted.class.manifests().clone(),
            made: counted.made,
        });
        outbound.chain(inbound).collect()
    }

    /// How many secrets were left out anew since this was asked last.
    pub fn take_missing_secrets(&mut self) -> u64 {
        std::mem::take(&mut self.missing_secrets)
    }

    /// Forgets classes that nobody came back to.
    fn sweep(&mut self) {
        let now = Instant::now();
        self.outbound.retain(|_, counted| counted.is_needed(now));
        self.inbound.retain(|_, counted| counted.is_needed(now));
    }

    fn next_id(&mut self) -> ClassId {
        self.last_id += 1;
        self.last_id
    }

    /// Adds a member; makes the class if it is the first.
    pub fn join_outbound(&mut self, snapshot: &Snapshot, class: &OutboundClass) -> ClassId {
        if let Some(counted) = self.outbound.get_mut(class) {
            counted.join();
            return counted.id;
        }
        self.sweep();
        // Most classes differ in their namespace only, and share nearly everything.
        let made = match self
            .outbound
            .values()
            .find(|like| like.class.is_like(class))
        {
            Some(like) => like.class.fork(snapshot, class.clone(), &mut self.cache),
            None => Outbound::new(snapshot, class.clone(), &mut self.cache),
        };
        self.missing_secrets += newly_missing_secrets(&Manifests::default(), made.manifests());
        let id = self.next_id();
        let counted = Counted::new(made, id, snapshot.version);
        self.outbound.insert(class.clone(), counted);
        id
    }

    /// Adds a member; makes the class if it is the first.
    pub fn join_inbound(&mut self, snapshot: &Snapshot, class: &InboundClass) -> ClassId {
        if let Some(counted) = self.inbound.get_mut(class) {
            counted.join();
            return counted.id;
        }
        let made = Inbound::new(snapshot, class.clone());
        let id = self.next_id();
        let counted = Counted::new(made, id, snapshot.version);
        self.inbound.insert(class.clone(), counted);
        id
    }

    /// Takes a member away.
    pub fn leave(&mut self, outbound: &OutboundClass, inbound: Option<&InboundClass>) {
        if let Some(counted) = self.outbound.get_mut(outbound) {
            counted.leave();
        }
        if let Some(inbound) = inbound
            && let Some(counted) = self.inbound.get_mut(inbound)
        {
            counted.leave();
        }
    }

    pub fn outbound(&self, class: &OutboundClass) -> Arc<Manifests> {
        self.outbound
            .get(class)
            .map(|counted| counted.class.manifests().clone())
            .unwrap_or_default()
    }

    pub fn inbound(&self, class: &InboundClass) -> Arc<Manifests> {
        self.inbound
            .get(class)
            .map(|counted| counted.class.manifests().clone())
            .unwrap_or_default()
    }

    pub fn outbound_classes(&self) -> impl Iterator<Item = (&Outbound, usize)> {
        self.outbound
            .values()
            .map(|counted| (&counted.class, counted.members))
    }

    pub fn inbound_classes(&self) -> impl Iterator<Item = (&Inbound, usize)> {
        self.inbound
            .values()
            .map(|counted| (&counted.class, counted.members))
    }

    pub fn cache(&self) -> &Cache {
        &self.cache
    }
}

#[cfg(test)]
mod tests;
