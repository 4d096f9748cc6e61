//! Readiness as a set of named gates: ready when all are open.

use std::collections::BTreeMap;
use std::sync::Arc;

use parking_lot::Mutex;

/// The gates of one process. Clones share them.
#[derive(Clone, Debug, Default)]
pub struct Readiness {
    gates: Arc<Mutex<BTreeMap<String, bool>>>,
}

/// A named condition. Dropping it does not change it.
#[derive(Clone, Debug)]
pub struct Gate {
    name: String,
    gates: Arc<Mutex<BTreeMap<String, bool>>>,
}

impl Readiness {
    /// Without gates, and so ready.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a closed gate, or returns the existing one of that name.
    #[must_use]
    pub fn gate(&self, name: &str) -> Gate {
        self.gates.lock().entry(name.to_owned()).or_insert(false);
        Gate {
            name: name.to_owned(),
            gates: Arc::clone(&self.gates),
        }
    }

    /// Names of the closed gates, sorted.
    #[must_use]
    pub fn missing(&self) -> Vec<String> {
        self.gates
            .lock()
            .iter()
            .filter(|(_, open)| !**open)
            .map(|(name, _)| name.clone())
            .collect()
    }

    /// Whether every gate is open.
    #[must_use]
    pub fn is_ready(&self) -> bool {
        self.gates.lock().values().all(|open| *open)
    }
}

impl Gate {
    /// Opens the gate: the condition holds.
    pub fn open(&self) {
        self.gates.lock().insert(self.name.clone(), true);
    }

    /// Closes the gate: the condition no longer holds.
    pub fn close(&self) {
        self.gates.lock().insert(self.name.clone(), false);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ready_when_all_gates_are_open() {
        let readiness = Readiness::new();
        assert!(readiness.is_ready());
        let (a, b) = (readiness.gate("config"), readiness.gate("bound"));
        assert_eq!(readiness.missing(), ["bound", "config"]);
        a.open();
        assert_eq!(readiness.missing(), ["bound"]);
        b.open();
        assert!(readiness.is_ready());
        a.close();
        assert_eq!(readiness.missing(), ["config"]);
    }
}
