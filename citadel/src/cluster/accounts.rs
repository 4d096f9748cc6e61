//! The watch of ServiceAccounts: all of them as hashes, for renewals by certificate; those of the
//! control plane by name, for their Secrets.

use std::collections::{BTreeMap, HashSet};
use std::sync::Arc;

use mesh_common::list_watch::{Api, Closed, Event, Follower, Listed, Target};
use mesh_common::readiness::Gate;
use serde::Deserialize;
use tokio::sync::watch;

use super::trouble::Trouble;
use crate::authenticate::{Accounts, Key};

/// Page size of client-go.
const PAGE: u32 = 500;

/// UIDs of the existing ServiceAccounts of the control plane, by name.
pub(crate) type Owners = BTreeMap<String, String>;

/// The fields that are read of a ServiceAccount.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Account {
    metadata: Metadata,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    name: String,
    #[serde(default)]
    namespace: String,
    #[serde(default)]
    uid: String,
    #[serde(default)]
    resource_version: String,
}

impl Listed for Account {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Maintains the known accounts.
#[derive(Debug)]
pub(crate) struct Writer {
    accounts: Arc<Accounts>,
    /// Namespace of the control plane.
    namespace: String,
    /// Names of the control plane's accounts.
    names: Vec<String>,
    owners: watch::Sender<Owners>,
    /// Opens after the first complete list.
    gate: Option<Gate>,
    trouble: Trouble,
    /// Entries of the current list so far.
    listed: (HashSet<Key>, Owners),
}

impl Writer {
    pub(crate) fn new(
        accounts: Arc<Accounts>,
        namespace: String,
        names: Vec<String>,
        gate: Option<Gate>,
    ) -> (Self, watch::Receiver<Owners>) {
        let (sender, owners) = watch::channel(Owners::new());
        let writer = Self {
            accounts,
            namespace,
            names,
            owners: sender,
            gate,
            trouble: Trouble::new("ServiceAccounts"),
            listed: Default::default(),
        };
        (writer, owners)
    }

    /// Follows the accounts; never returns.
    pub(crate) async fn run(mut self, api: Api) {
        let target = Target {
            url: "/api/v1/serviceaccounts".to_owned(),
            page: PAGE,
            fields: None,
        };
        let Closed = api.follow(&target, &mut self).await;
    }

    fn key(
        &self,
        Metadata {
            namespace, name, ..
        }: &Metadata,
    ) -> Key {
        self.accounts.key(namespace, name)
    }

    fn is_owner(&self, account: &Metadata) -> bool {
        account.namespace == self.namespace && self.names.contains(&account.name)
    }

    fn set_owners(&self, change: impl FnOnce(&mut Owners)) {
        self.owners.send_if_modified(|owners| {
            let before = owners.clone();
            change(owners);
            *owners != before
        });
    }
}

impl Follower<Account> for Writer {
    async fn take(&mut self, event: Event<'_, Account>) -> Result<(), Closed> {
        match event {
            Event::Started => self.listed = Default::default(),
            Event::Page(accounts) => {
                for Account { metadata } in accounts {
                    self.listed.0.insert(self.key(&metadata));
                    if self.is_owner(&metadata) {
                        self.listed.1.insert(metadata.name, metadata.uid);
                    }
                }
            }
            Event::Complete => {
                let (keys, owners) = std::mem::take(&mut self.listed);
                self.accounts.replace(keys);
                self.set_owners(|known| *known = owners);
                self.gate.iter().for_each(Gate::open);
            }
            Event::Applied(Account { metadata }) => {
                self.accounts.insert(self.key(&metadata));
                if self.is_owner(&metadata) {
                    self.set_owners(|known| {
                        known.insert(metadata.name, metadata.uid);
                    });
                }
            }
            Event::Deleted(Account { metadata }) => {
                self.accounts.remove(self.key(&metadata));
                if self.is_owner(&metadata) {
                    self.set_owners(|known| {
                        known.remove(&metadata.name);
                    });
                }
            }
            Event::Failed(failure) => self.trouble.failed(failure),
            Event::Works => self.trouble.works(),
        }
        Ok(())
    }
}
