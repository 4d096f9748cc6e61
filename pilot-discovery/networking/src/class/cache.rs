//! Generated resources by the hash of their inputs, for as long as some class holds them.

use std::{
    collections::BTreeMap,
    hash::Hash,
    sync::{Arc, Weak},
};

use pilot_model::hashed::hash_of;

use crate::{
    resource::{Built, Resource, Skipped},
    route,
};

/// Values by key, not kept alive by being here.
#[derive(Debug)]
pub struct Shared<T> {
    values: BTreeMap<u128, Weak<T>>,
    /// Size at which forgotten values are looked for.
    sweep_at: usize,
    hits: u64,
    misses: u64,
}

impl<T> Default for Shared<T> {
    fn default() -> Self {
        Self {
            values: BTreeMap::new(),
            sweep_at: 1024,
            hits: 0,
            misses: 0,
        }
    }
}

impl<T> Shared<T> {
    /// The value that `build` makes of `inputs`, shared by all callers with equal
    /// inputs. `build` is a function and no closure: it sees nothing that is not in the key.
    pub fn get_or_build<I: Hash>(&mut self, inputs: &I, build: fn(&I) -> T) -> Arc<T> {
        let key = hash_of(inputs);
        if let Some(value) = self.values.get(&key).and_then(Weak::upgrade) {
            self.hits += 1;
            return value;
        }
        self.misses += 1;
        let value = Arc::new(build(inputs));
        self.values.insert(key, Arc::downgrade(&value));
        if self.values.len() > self.sweep_at {
            self.values.retain(|_, value| value.strong_count() > 0);
            self.sweep_at = (self.values.len() * 2).max(1024);
        }
        value
    }

    /// How often a value was shared.
    pub fn hits(&self) -> u64 {
        self.hits
    }

    /// How often a value had to be made.
    pub fn misses(&self) -> u64 {
        self.misses
    }
}

/// Resources that one unit of work gave, each shared by itself.
#[derive(Debug, Default)]
pub struct Made {
    /// What was made.
    pub resources: Vec<Arc<Resource>>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
}

impl From<Built> for Made {
    fn from(built: Built) -> Self {
        Self {
            resources: built.resources.into_iter().map(Arc::new).collect(),
            skipped: built.skipped,
        }
    }
}

/// What classes share.
#[derive(Debug, Default)]
pub struct Cache {
    /// Clusters of one service.
    pub clusters: Shared<Made>,
    /// Load assignments of one service.
    pub endpoints: Shared<Made>,
    /// Outbound listeners of one port.
    pub listeners: Shared<Made>,
    /// All inbound listeners of a workload.
    pub inbound_listeners: Shared<Made>,
    /// Virtual hosts of one service or VirtualService.
    pub virtual_hosts: Shared<route::outbound::virtual_hosts::Built>,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn double(number: &usize) -> usize {
        number * 2
    }

    #[test]
    fn equal_inputs_share_one_value_while_it_is_held() {
        let mut shared = Shared::default();
        let one = shared.get_or_build(&1, double);
        let again = shared.get_or_build(&1, double);
        assert!(Arc::ptr_eq(&one, &again));
        assert_eq!((*one, shared.hits(), shared.misses()), (2, 1, 1));
        drop((one, again));
        shared.get_or_build(&1, double);
        assert_eq!((shared.hits(), shared.misses()), (1, 2));
    }

    #[test]
    fn what_is_not_held_is_forgotten_in_time() {
        let mut shared = Shared::default();
        let held: Vec<Arc<usize>> = (0..1024).map(|n| shared.get_or_build(&n, double)).collect();
        // None is free yet, so the next look waits until there are twice as many.
        held.iter().enumerate().for_each(|(n, value)| {
            assert!(Arc::ptr_eq(value, &shared.get_or_build(&n, double)));
        });
        let last = shared.get_or_build(&1024, double);
        assert_eq!((shared.values.len(), shared.sweep_at), (1025, 2050));
        drop(held);
        for n in 2000..2010 {
            shared.get_or_build(&n, double);
        }
        assert_eq!(shared.values.len(), 1035, "not yet");
        for n in 2010..3026 {
            shared.get_or_build(&n, double);
        }
        // `last`, and what was just made, are all that is held.
        assert_eq!((shared.values.len(), shared.sweep_at), (2, 1024));
        assert!(Arc::ptr_eq(&last, &shared.get_or_build(&1024, double)));
    }
}
