//! Connected proxies, their classes, and who must hear of a change.
//!
//! ```text
//! connect ─► classify ─► group of the class (made when its first proxy connects)
//! follow(changes) ─► proxies that change their class ┐
//!                 ─► classes that changes touch      ┴─► the proxies whose manifests changed
//! ```
//!
//! A change costs what it touches: only members of changed classes are visited.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use imbl::{OrdSet, ordmap::DiffItem};
use pilot_model::{
    changes::Changes,
    class::{InboundClass, OutboundClass, classify},
    credential::Account,
    proxy::{Proxy, ProxyType},
    snapshot::Snapshot,
};

use super::{
    cache::Cache,
    dirt::Dirt,
    group::{ClassId, ClassState, Group, ProxyId},
    inbound::Inbound,
    outbound::Outbound,
};
use crate::{gateway::SECRET_ERRORS, manifest::Manifests, resource::Skipped};

/// A connected proxy.
#[derive(Debug)]
pub struct Connected {
    /// As it described itself.
    pub proxy: Proxy,
    /// What it sees as a client.
    pub outbound: OutboundClass,
    /// What it serves; `None` for gateways.
    pub inbound: Option<InboundClass>,
    /// The classes by their numbers.
    pub membership: Membership,
}

/// The classes that a proxy is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Membership {
    /// Class of what it sees as a client.
    pub outbound: ClassId,
    /// Class of what it serves.
    pub inbound: Option<ClassId>,
    /// Version of the snapshot with which it joined them.
    pub since: u64,
}

/// What one proxy is to hold.
#[derive(Clone, Debug, Default)]
pub struct Sides {
    /// What it shares with clients that see the same.
    pub outbound: Arc<Manifests>,
    /// What it shares with workloads that serve the same; empty for gateways.
    pub inbound: Arc<Manifests>,
}

/// Accounts of connected proxies.
pub type Accounts = OrdSet<Account>;

/// All connected proxies and their classes.
#[derive(Debug, Default)]
pub struct Fleet {
    proxies: BTreeMap<ProxyId, Connected>,
    by_address: BTreeMap<Arc<str>, BTreeSet<ProxyId>>,
    /// Gateways by the accounts that their certificates prove.
    by_account: BTreeMap<Account, BTreeSet<ProxyId>>,
    /// The keys of `by_account`.
    accounts: Accounts,
    outbound: BTreeMap<OutboundClass, Group<Outbound>>,
    inbound: BTreeMap<InboundClass, Group<Inbound>>,
    cache: Cache,
    last_class: ClassId,
    /// What gateways serve; one value, so that it is never taken for a change.
    nothing: Arc<Manifests>,
    /// Secrets left out since [`Fleet::take_missing_secrets`] was called last.
    missing_secrets: u64,
}

impl Fleet {
    /// Adds a proxy to its classes; returns what it is to hold.
    pub fn connect(
        &mut self,
        id: ProxyId,
        proxy: Proxy,
        snapshot: &Snapshot,
        now: Instant,
    ) -> Sides {
        let (outbound, inbound) = classify(snapshot, &proxy);
        let membership = self.join(id, snapshot, &outbound, inbound.as_ref(), now);
        for ip in &proxy.ips {
            let address = ip.to_string().into();
            self.by_address.entry(address).or_default().insert(id);
        }
        if let Some(account) = gateway_account(&proxy) {
            self.accounts.insert(account.clone());
            let ids = self.by_account.entry(account.clone()).or_default();
            ids.insert(id);
        }
        let connected = Connected {
            proxy,
            outbound,
            inbound,
            membership,
        };
        self.proxies.insert(id, connected);
        self.sides(id).unwrap_or_default()
    }

    /// Removes a proxy from its classes.
    pub fn disconnect(&mut self, id: ProxyId, now: Instant) {
        let Some(member) = self.proxies.remove(&id) else {
            return;
        };
        self.leave(id, &member.outbound, member.inbound.as_ref(), now);
        for ip in &member.proxy.ips {
            remove_id(&mut self.by_address, &Arc::from(ip.to_string()), id);
        }
        if let Some(account) = gateway_account(&member.proxy) {
            remove_id(&mut self.by_account, account, id);
            if !self.by_account.contains_key(account) {
                self.accounts.remove(account);
            }
        }
    }

    /// Brings all classes up to `snapshot`; returns the proxies whose manifests were replaced.
    pub fn follow(
        &mut self,
        snapshot: &Snapshot,
        changes: &Changes,
        now: Instant,
    ) -> BTreeSet<ProxyId> {
        let mut affected = self.reclassify(snapshot, changes, now);
        self.sweep(now);
        let dirt = Dirt::of(snapshot, changes);
        for group in self.outbound.values_mut() {
            let before = group.side.manifests().clone();
            let cache = &mut self.cache;
            let replaced = group.update(snapshot.version, |side| {
                side.update(snapshot, &dirt, cache);
            });
            if replaced {
                affected.extend(group.members());
                if !group.members().is_empty() {
                    self.missing_secrets += newly_missing(&before, group.side.manifests());
                }
            }
        }
        for group in self.inbound.values_mut() {
            let cache = &mut self.cache;
            let replaced = group.update(snapshot.version, |side| {
                side.update(snapshot, changes, cache);
            });
            if replaced {
                affected.extend(group.members());
            }
        }
        affected
    }

    /// Moves proxies that belong to other classes now; returns those that were moved.
    fn reclassify(
        &mut self,
        snapshot: &Snapshot,
        changes: &Changes,
        now: Instant,
    ) -> BTreeSet<ProxyId> {
        let everybody = changes.everything || changes.lookup || !changes.sidecars.is_empty();
        let candidates: Vec<ProxyId> = if everybody {
            self.proxies.keys().copied().collect()
        } else {
            let at = changes.addresses.iter();
            let at = at.filter_map(|address| self.by_address.get(address));
            let of = changes.rights.iter();
            let of = of.filter_map(|account| self.by_account.get(account));
            let ids: BTreeSet<ProxyId> = at.chain(of).flatten().copied().collect();
            ids.into_iter().collect()
        };
        let mut moved = BTreeSet::new();
        for id in candidates {
            let Some(member) = self.proxies.get(&id) else {
                continue;
            };
            let (outbound, inbound) = classify(snapshot, &member.proxy);
            if outbound == member.outbound && inbound == member.inbound {
                continue;
            }
            let (old_outbound, old_inbound) = (member.outbound.clone(), member.inbound.clone());
            // Joined first, so that a class which it stays in is not taken for an empty one.
            let membership = self.join(id, snapshot, &outbound, inbound.as_ref(), now);
            let left = (old_outbound != outbound).then_some(&old_outbound);
            let left_inbound = old_inbound.as_ref().filter(|_| old_inbound != inbound);
            if let Some(group) = left.and_then(|class| self.outbound.get_mut(class)) {
                group.leave(id, now);
            }
            if let Some(group) = left_inbound.and_then(|class| self.inbound.get_mut(class)) {
                group.leave(id, now);
            }
            if let Some(member) = self.proxies.get_mut(&id) {
                member.membership = membership;
                member.outbound = outbound;
                member.inbound = inbound;
            }
            moved.insert(id);
        }
        moved
    }

    fn join(
        &mut self,
        id: ProxyId,
        snapshot: &Snapshot,
        outbound: &OutboundClass,
        inbound: Option<&InboundClass>,
        now: Instant,
    ) -> Membership {
        if !self.outbound.contains_key(outbound)
            || inbound.is_some_and(|c| !self.inbound.contains_key(c))
        {
            self.sweep(now);
        }
        Membership {
            outbound: self.join_outbound(id, snapshot, outbound),
            inbound: inbound.map(|inbound| self.join_inbound(id, snapshot, inbound)),
            since: snapshot.version,
        }
    }

    fn join_outbound(
        &mut self,
        id: ProxyId,
        snapshot: &Snapshot,
        class: &OutboundClass,
    ) -> ClassId {
        if let Some(group) = self.outbound.get_mut(class) {
            group.join(id);
            return group.id;
        }
        // Most classes differ in their namespace only, and share nearly everything.
        let similar = self
            .outbound
            .values()
            .find(|group| group.side.is_like(class));
        let side = match similar {
            Some(group) => group.side.fork(snapshot, class.clone(), &mut self.cache),
            None => Outbound::new(snapshot, class.clone(), &mut self.cache),
        };
        self.missing_secrets += newly_missing(&Manifests::default(), side.manifests());
        self.last_class += 1;
        let mut group = Group::new(side, self.last_class, snapshot.version);
        group.join(id);
        self.outbound.insert(class.clone(), group);
        self.last_class
    }

    fn join_inbound(&mut self, id: ProxyId, snapshot: &Snapshot, class: &InboundClass) -> ClassId {
        if let Some(group) = self.inbound.get_mut(class) {
            group.join(id);
            return group.id;
        }
        let side = Inbound::new(snapshot, class.clone(), &mut self.cache);
        self.last_class += 1;
        let mut group = Group::new(side, self.last_class, snapshot.version);
        group.join(id);
        self.inbound.insert(class.clone(), group);
        self.last_class
    }

    fn leave(
        &mut self,
        id: ProxyId,
        outbound: &OutboundClass,
        inbound: Option<&InboundClass>,
        now: Instant,
    ) {
        if let Some(group) = self.outbound.get_mut(outbound) {
            group.leave(id, now);
        }
        if let Some(group) = inbound.and_then(|inbound| self.inbound.get_mut(inbound)) {
            group.leave(id, now);
        }
    }

    /// Drops classes that no proxy came back to.
    fn sweep(&mut self, now: Instant) {
        self.outbound.retain(|_, group| group.is_needed(now));
        self.inbound.retain(|_, group| group.is_needed(now));
    }

    /// What a connected proxy is to hold.
    pub fn sides(&self, id: ProxyId) -> Option<Sides> {
        let member = self.proxies.get(&id)?;
        let outbound = self.outbound.get(&member.outbound)?;
        let inbound = member.inbound.as_ref();
        let inbound = inbound.and_then(|class| self.inbound.get(class));
        Some(Sides {
            outbound: outbound.side.manifests().clone(),
            inbound: inbound
                .map_or(&self.nothing, |group| group.side.manifests())
                .clone(),
        })
    }

    /// Number of connected proxies.
    pub fn len(&self) -> usize {
        self.proxies.len()
    }

    /// Whether no proxy is connected.
    pub fn is_empty(&self) -> bool {
        self.proxies.is_empty()
    }

    /// The connected proxies.
    pub fn proxies(&self) -> impl Iterator<Item = (ProxyId, &Connected)> {
        self.proxies.iter().map(|(id, member)| (*id, member))
    }

    /// A connected proxy.
    pub fn get(&self, id: ProxyId) -> Option<&Connected> {
        self.proxies.get(&id)
    }

    /// The accounts that connected gateways proved.
    pub fn gateway_accounts(&self) -> &Accounts {
        &self.accounts
    }

    /// What every class holds, whichever its side.
    pub fn class_states(&self) -> Vec<ClassState> {
        let outbound = self.outbound.values().map(Group::state);
        outbound
            .chain(self.inbound.values().map(Group::state))
            .collect()
    }

    /// Classes of clients, with the number of their proxies.
    pub fn outbound_classes(&self) -> impl Iterator<Item = (&Outbound, usize)> {
        let groups = self.outbound.values();
        groups.map(|group| (&group.side, group.members().len()))
    }

    /// Classes of workloads that serve, with the number of their proxies.
    pub fn inbound_classes(&self) -> impl Iterator<Item = (&Inbound, usize)> {
        let groups = self.inbound.values();
        groups.map(|group| (&group.side, group.members().len()))
    }

    /// What classes share.
    pub fn cache(&self) -> &Cache {
        &self.cache
    }

    /// How many secrets were newly left out since the last call.
    pub fn take_missing_secrets(&mut self) -> u64 {
        std::mem::take(&mut self.missing_secrets)
    }
}

fn remove_id<K: Ord>(index: &mut BTreeMap<K, BTreeSet<ProxyId>>, key: &K, id: ProxyId) {
    if let Some(ids) = index.get_mut(key) {
        ids.remove(&id);
        if ids.is_empty() {
            index.remove(key);
        }
    }
}

fn gateway_account(proxy: &Proxy) -> Option<&Account> {
    let account = proxy.verified.as_ref();
    account.filter(|_| proxy.kind == ProxyType::Router)
}

/// Secrets that are left out now, and were not before or for another reason.
fn newly_missing(before: &Manifests, after: &Manifests) -> u64 {
    let missing = |skipped: &[Skipped]| -> Vec<Skipped> {
        let of_secrets = skipped.iter().filter(|one| one.metric == SECRET_ERRORS);
        of_secrets.cloned().collect()
    };
    let news = before.skipped.diff(&after.skipped).map(|item| match item {
        DiffItem::Add(_, new) => missing(new).len(),
        DiffItem::Update {
            old: (_, old),
            new: (_, new),
        } => missing(new).iter().filter(|one| !old.contains(one)).count(),
        DiffItem::Remove(..) => 0,
    });
    news.sum::<usize>() as u64
}

#[cfg(test)]
mod tests;
