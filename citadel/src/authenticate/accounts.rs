//! The ServiceAccounts of the cluster: a certificate is not renewed when its account is deleted.

use std::collections::HashSet;
use std::collections::hash_map::RandomState;
use std::hash::BuildHasher;

use mesh_core::spiffe::Identity;
use parking_lot::RwLock;

use super::Refusal;

/// Stored form of an account: a 64-bit hash with a random secret key, so that collisions cannot be
/// constructed.
pub(crate) type Key = u64;

/// The accounts of the cluster. Nothing is known before the first complete list; after that the
/// last known state applies, also while the API server is unreachable.
#[derive(Debug, Default)]
pub(crate) struct Accounts {
    hasher: RandomState,
    known: RwLock<Option<HashSet<Key>>>,
}

impl Accounts {
    pub(crate) fn key(&self, namespace: &str, name: &str) -> Key {
        self.hasher.hash_one((namespace, name))
    }

    /// Replaces all accounts.
    pub(crate) fn replace(&self, accounts: HashSet<Key>) {
        *self.known.write() = Some(accounts);
    }

    pub(crate) fn insert(&self, account: Key) {
        if let Some(known) = self.known.write().as_mut() {
            known.insert(account);
        }
    }

    pub(crate) fn remove(&self, account: Key) {
        if let Some(known) = self.known.write().as_mut() {
            known.remove(&account);
        }
    }

    /// Checks that the account of an identity exists.
    pub(super) fn check(&self, identity: &Identity) -> Result<(), Refusal> {
        let key = self.key(identity.namespace(), identity.service_account());
        match self.known.read().as_ref().map(|known| known.contains(&key)) {
            Some(true) => Ok(()),
            Some(false) => Err(Refusal::Unauthenticated(format!(
                "client certificate of {identity}: its ServiceAccount no longer exists"
            ))),
            None => Err(Refusal::Unavailable(
                "the ServiceAccounts of the cluster have not been listed yet".to_owned(),
            )),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(accounts: &Accounts, namespace: &str, name: &str) -> Result<(), Refusal> {
        let domain = mesh_core::spiffe::TrustDomain::new("td").unwrap();
        accounts.check(&Identity::new(domain, namespace, name).unwrap())
    }

    #[test]
    fn only_those_that_are_there_are_renewed() {
        let accounts = Accounts::default();
        assert!(matches!(
            check(&accounts, "a", "b"),
            Err(Refusal::Unavailable(_))
        ));
        accounts.replace(HashSet::from([accounts.key("a", "b")]));
        assert_eq!(check(&accounts, "a", "b"), Ok(()));
        // The boundary between namespace and name counts.
        for (namespace, name) in [("ab", "c"), ("b", "a"), ("a", "c")] {
            let refusal = check(&accounts, namespace, name).unwrap_err();
            assert!(matches!(&refusal, Refusal::Unauthenticated(why) if why.contains("no longer")));
        }
        accounts.insert(accounts.key("a", "c"));
        accounts.remove(accounts.key("a", "b"));
        assert_eq!(check(&accounts, "a", "c"), Ok(()));
        assert!(check(&accounts, "a", "b").is_err());
    }
}
