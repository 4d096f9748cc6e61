//! Credentials, and the accounts that may receive them.

use std::sync::Arc;

use imbl::OrdMap;

use super::Builder;
use crate::{
    credential::{Account, Credential},
    key::ObjectKey,
};

impl Builder {
    /// Sets or removes a credential of the directory.
    pub fn set_credential(&mut self, key: &ObjectKey, credential: Option<Credential>) {
        if put(&mut self.next.credentials, key, credential) {
            self.changes.credentials.insert(key.clone());
        }
    }

    /// Records that there is a cluster.
    pub fn follow_cluster(&mut self) {
        self.next.cluster_secrets.is_followed = true;
        self.changes.everything = true;
    }

    /// Sets or removes a credential of the cluster.
    pub fn set_cluster_credential(&mut self, key: &ObjectKey, credential: Option<Credential>) {
        if put(&mut self.next.cluster_secrets.credentials, key, credential) {
            self.changes.credentials.insert(key.clone());
        }
    }

    /// Records that a Secret of the cluster is invalid now; its previous content stays in force.
    pub fn set_cluster_fault(&mut self, key: &ObjectKey, fault: &str) {
        let known = self.next.cluster_secrets.credentials.get(key);
        let mut credential = known.map(|known| Credential::clone(known));
        credential.get_or_insert_default().fault = Some(fault.into());
        self.set_cluster_credential(key, credential);
    }

    /// Removes all credentials of a namespace of the cluster.
    pub fn forget_cluster_credentials(&mut self, namespace: &str) {
        let credentials = &mut self.next.cluster_secrets.credentials;
        let keys: Vec<ObjectKey> = credentials
            .range(ObjectKey::new(namespace, "")..)
            .map(|(key, _)| key)
            .take_while(|key| &*key.namespace == namespace)
            .cloned()
            .collect();
        for key in keys {
            credentials.remove(&key);
            self.changes.credentials.insert(key);
        }
    }

    /// Sets whether an account may receive the keys of its namespace; `None`: unknown.
    pub fn set_right(&mut self, account: &Account, right: Option<bool>) {
        let rights = &mut self.next.cluster_secrets.rights;
        if rights.get(account).copied() == right {
            return;
        }
        match right {
            Some(right) => rights.insert(account.clone(), right),
            None => rights.remove(account),
        };
        self.changes.rights.insert(account.clone());
    }
}

/// Returns whether anything changed.
fn put(
    credentials: &mut OrdMap<ObjectKey, Arc<Credential>>,
    key: &ObjectKey,
    credential: Option<Credential>,
) -> bool {
    match credential {
        Some(new) if credentials.get(key).is_some_and(|old| **old == new) => false,
        Some(new) => {
            credentials.insert(key.clone(), Arc::new(new));
            true
        }
        None => credentials.remove(key).is_some(),
    }
}
