//! The classes that connected proxies belong to.

use std::{collections::BTreeMap, sync::Arc};

use pilot_model::{
    changes::Changes,
    class::{InboundClass, OutboundClass},
    snapshot::Snapshot,
};
use pilot_networking::{
    class::{cache::Cache, dirt::Dirt, inbound::Inbound, outbound::Outbound},
    manifest::Manifests,
};

/// A class with the number of proxies in it.
#[derive(Debug)]
struct Counted<T> {
    class: T,
    members: usize,
}

/// All classes. A class is made when its first proxy connects and forgotten with its last.
#[derive(Debug, Default)]
pub struct Classes {
    outbound: BTreeMap<OutboundClass, Counted<Outbound>>,
    inbound: BTreeMap<InboundClass, Counted<Inbound>>,
    cache: Cache,
}

impl Classes {
    /// Follows a snapshot in every class; `true` when any manifest changed.
    pub fn update(&mut self, snapshot: &Snapshot, changes: &Changes) -> bool {
        let dirt = Dirt::of(snapshot, changes);
        let mut changed = false;
        for counted in self.outbound.values_mut() {
            changed |= counted
                .class
                .update(snapshot, changes, &dirt, &mut self.cache);
        }
        for counted in self.inbound.values_mut() {
            changed |= counted.class.update(snapshot, changes);
        }
        changed
    }

    /// Adds a member; makes the class if it is the first.
    pub fn join_outbound(&mut self, snapshot: &Snapshot, class: &OutboundClass) {
        match self.outbound.get_mut(class) {
            Some(counted) => counted.members += 1,
            None => {
                let made = Outbound::new(snapshot, class.clone(), &mut self.cache);
                self.outbound.insert(
                    class.clone(),
                    Counted {
                        class: made,
                        members: 1,
                    },
                );
            }
        }
    }

    /// Adds a member; makes the class if it is the first.
    pub fn join_inbound(&mut self, snapshot: &Snapshot, class: &InboundClass) {
        match self.inbound.get_mut(class) {
            Some(counted) => counted.members += 1,
            None => {
                let made = Inbound::new(snapshot, class.clone());
                self.inbound.insert(
                    class.clone(),
                    Counted {
                        class: made,
                        members: 1,
                    },
                );
            }
        }
    }

    /// Takes a member away; forgets the class if it was the last.
    pub fn leave(&mut self, outbound: &OutboundClass, inbound: Option<&InboundClass>) {
        if let Some(counted) = self.outbound.get_mut(outbound) {
            counted.members -= 1;
            if counted.members == 0 {
                self.outbound.remove(outbound);
            }
        }
        if let Some(inbound) = inbound
            && let Some(counted) = self.inbound.get_mut(inbound)
        {
            counted.members -= 1;
            if counted.members == 0 {
                self.inbound.remove(inbound);
            }
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
