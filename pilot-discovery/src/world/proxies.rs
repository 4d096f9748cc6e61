//! Connected proxies and the classes they are in.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
    time::Instant,
};

use imbl::OrdSet;
use pilot_model::{
    changes::Changes,
    class::{InboundClass, OutboundClass, classify},
    credential::Account,
    proxy::{Proxy, ProxyType},
    snapshot::Snapshot,
};
use tokio::sync::watch;

use super::classes::{ClassId, Classes};
use crate::xds::kind::{Times, View};

/// A connected proxy.
#[derive(Debug)]
pub struct Member {
    pub proxy: Proxy,
    pub outbound: OutboundClass,
    pub inbound: Option<InboundClass>,
    pub place: Place,
    view: watch::Sender<View>,
}

/// The classes that a proxy is in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    pub outbound: ClassId,
    pub inbound: Option<ClassId>,
    /// Version of the snapshot with which it came, or moved, there.
    pub since: u64,
}

impl Member {
    /// What it was last told to hold.
    pub fn view(&self) -> View {
        self.view.borrow().clone()
    }
}

/// Accounts of connected proxies.
pub type Accounts = OrdSet<Account>;

/// All connected proxies, by connection.
#[derive(Debug, Default)]
pub struct Proxies {
    members: BTreeMap<u64, Member>,
    /// Connections by the addresses of their proxies.
    by_address: BTreeMap<Arc<str>, BTreeSet<u64>>,
    /// Connections of gateways by the accounts that these proved.
    by_account: BTreeMap<Account, BTreeSet<u64>>,
    /// The keys of `by_account`.
    gateways: watch::Sender<Accounts>,
}

impl Proxies {
    pub fn len(&self) -> usize {
        self.members.len()
    }

    pub fn is_empty(&self) -> bool {
        self.members.is_empty()
    }

    pub fn iter(&self) -> impl Iterator<Item = &Member> {
        self.members.values()
    }

    /// Every proxy with the number of its connection.
    pub fn connections(&self) -> impl Iterator<Item = (u64, &Member)> {
        self.members.iter().map(|(id, member)| (*id, member))
    }

    pub fn get(&self, id: u64) -> Option<&Member> {
        self.members.get(&id)
    }

    /// The accounts that connected gateways proved.
    pub fn gateways(&self) -> watch::Receiver<Accounts> {
        self.gateways.subscribe()
    }

    /// Adds a proxy to its classes; gives the channel on which its views arrive.
    pub fn connect(
        &mut self,
        id: u64,
        proxy: Proxy,
        snapshot: &Snapshot,
        classes: &mut Classes,
    ) -> watch::Receiver<View> {
        let (outbound, inbound) = classify(snapshot, &proxy);
        let place = join(classes, snapshot, &outbound, inbound.as_ref());
        let (view_tx, view_rx) =
            watch::channel(view(classes, snapshot, &outbound, inbound.as_ref()));
        for ip in &proxy.ips {
            self.by_address
                .entry(ip.to_string().into())
                .or_default()
                .insert(id);
        }
        if let Some(account) = gateway_account(&proxy) {
            let ids = self.by_account.entry(account.clone()).or_default();
            if ids.is_empty() {
                self.gateways.send_modify(|all| {
                    all.insert(account.clone());
                });
            }
            ids.insert(id);
        }
        self.members.insert(
            id,
            Member {
                proxy,
                outbound,
                inbound,
                place,
                view: view_tx,
            },
        );
        view_rx
    }

    pub fn disconnect(&mut self, id: u64, classes: &mut Classes) {
        let Some(member) = self.members.remove(&id) else {
            return;
        };
        classes.leave(&member.outbound, member.inbound.as_ref());
        for ip in &member.proxy.ips {
            let address: Arc<str> = ip.to_string().into();
            if let Some(ids) = self.by_address.get_mut(&address) {
                ids.remove(&id);
                if ids.is_empty() {
                    self.by_address.remove(&address);
                }
            }
        }
        if let Some(account) = gateway_account(&member.proxy)
            && let Some(ids) = self.by_account.get_mut(account)
        {
            ids.remove(&id);
            if ids.is_empty() {
                self.by_account.remove(account);
                self.gateways.send_modify(|all| {
                    all.remove(account);
                });
            }
        }
    }

    /// Moves the proxies that the changes put into other classes.
    pub fn reclassify(&mut self, snapshot: &Snapshot, changes: &Changes, classes: &mut Classes) {
        let everybody = changes.everything || changes.selectors || !changes.sidecars.is_empty();
        let concerned: Vec<u64> = if everybody {
            self.members.keys().copied().collect()
        } else {
            let at = changes.addresses.iter();
            let at = at.filter_map(|address| self.by_address.get(address));
            let of = changes.rights.iter();
            let of = of.filter_map(|account| self.by_account.get(account));
            let ids: BTreeSet<u64> = at.chain(of).flatten().copied().collect();
            ids.into_iter().collect()
        };
        for id in concerned {
            let Some(member) = self.members.get_mut(&id) else {
                continue;
            };
            let (outbound, inbound) = classify(snapshot, &member.proxy);
            if outbound == member.outbound && inbound == member.inbound {
                continue;
            }
            member.place = join(classes, snapshot, &outbound, inbound.as_ref());
            classes.leave(&member.outbound, member.inbound.as_ref());
            member.outbound = outbound;
            member.inbound = inbound;
        }
    }

    /// Tells every proxy whose manifests changed; gives their number. `changed` is when the first
    /// of the changes came.
    pub fn publish(&self, snapshot: &Snapshot, classes: &Classes, changed: Instant) -> usize {
        let mut told = 0;
        let times = Some(Times {
            changed,
            published: Instant::now(),
        });
        for member in self.members.values() {
            let mut new = view(classes, snapshot, &member.outbound, member.inbound.as_ref());
            new.times = times;
            let changed = member.view.send_if_modified(|old| {
                let same = Arc::ptr_eq(&old.outbound, &new.outbound)
                    && Arc::ptr_eq(&old.inbound, &new.inbound);
                if !same {
                    *old = new;
                }
                !same
            });
            told += usize::from(changed);
        }
        told
    }
}

fn gateway_account(proxy: &Proxy) -> Option<&Account> {
    let account = proxy.verified.as_ref();
    account.filter(|_| proxy.kind == ProxyType::Router)
}

fn join(
    classes: &mut Classes,
    snapshot: &Snapshot,
    outbound: &OutboundClass,
    inbound: Option<&InboundClass>,
) -> Place {
    Place {
        outbound: classes.join_outbound(snapshot, outbound),
        inbound: inbound.map(|inbound| classes.join_inbound(snapshot, inbound)),
        since: snapshot.version,
    }
}

fn view(
    classes: &Classes,
    snapshot: &Snapshot,
    outbound: &OutboundClass,
    inbound: Option<&InboundClass>,
) -> View {
    View {
        outbound: classes.outbound(outbound),
        inbound: inbound
            .map(|inbound| classes.inbound(inbound))
            .unwrap_or_default(),
        version: snapshot.version,
        times: None,
    }
}
