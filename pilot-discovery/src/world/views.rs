//! The channels on which connected proxies receive their resources.

use std::{collections::BTreeMap, sync::Arc, time::Instant};

use pilot_model::snapshot::Snapshot;
use pilot_networking::class::{
    fleet::{Accounts, Fleet, Sides},
    group::ProxyId,
};
use tokio::sync::watch;

use pilot_xds::view::{Times, View};

/// One channel per connection, and one for the accounts of gateways.
#[derive(Debug, Default)]
pub struct Views {
    senders: BTreeMap<ProxyId, watch::Sender<View>>,
    accounts: watch::Sender<Accounts>,
}

impl Views {
    /// Opens the channel of a connection with its first view.
    pub fn open(&mut self, id: ProxyId, sides: Sides, version: u64) -> watch::Receiver<View> {
        let (sender, receiver) = watch::channel(view(sides, version, None));
        self.senders.insert(id, sender);
        receiver
    }

    /// Closes the channel of a connection.
    pub fn close(&mut self, id: ProxyId) {
        self.senders.remove(&id);
    }

    /// The last view of a connection.
    pub fn last(&self, id: ProxyId) -> Option<View> {
        self.senders.get(&id).map(|sender| sender.borrow().clone())
    }

    /// The accounts that connected gateways proved.
    pub fn accounts(&self) -> watch::Receiver<Accounts> {
        self.accounts.subscribe()
    }

    /// Publishes the accounts of gateways if they changed.
    pub fn set_accounts(&self, accounts: &Accounts) {
        self.accounts.send_if_modified(|old| {
            let differs = old != accounts;
            if differs {
                old.clone_from(accounts);
            }
            differs
        });
    }

    /// Sends a new view to each of `affected` whose manifests differ from those in its last view;
    /// returns how many. `changed` is when the first of the changes arrived.
    pub fn publish(
        &self,
        fleet: &Fleet,
        affected: impl IntoIterator<Item = ProxyId>,
        snapshot: &Snapshot,
        changed: Instant,
    ) -> usize {
        let times = Times {
            changed,
            published: Instant::now(),
        };
        let mut sent = 0;
        for id in affected {
            let (Some(sides), Some(sender)) = (fleet.sides(id), self.senders.get(&id)) else {
                continue;
            };
            let new = view(sides, snapshot.version, Some(times));
            let replaced = sender.send_if_modified(|old| {
                let same = Arc::ptr_eq(&old.outbound, &new.outbound)
                    && Arc::ptr_eq(&old.inbound, &new.inbound);
                if !same {
                    *old = new;
                }
                !same
            });
            sent += usize::from(replaced);
        }
        sent
    }
}

fn view(sides: Sides, version: u64, times: Option<Times>) -> View {
    View {
        outbound: sides.outbound,
        inbound: sides.inbound,
        version,
        times,
    }
}
