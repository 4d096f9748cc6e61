//! Readiness of Envoy.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use mesh_common::metrics::Gauge;
use parking_lot::Mutex;
use tokio::time::Instant;

use crate::{
    envoy::admin::{Admin, values},
    lifecycle::{Lifecycle, Phase},
};

const UPDATES: &str =
    r"^(cluster_manager\.cds|listener_manager\.lds)\.(update_success|update_rejected)$";
const STATE: &str = r"^(server\.state|listener_manager\.workers_started)";
const LIMIT: Duration = Duration::from_secs(3);
/// `server.state` of a server that accepts traffic.
const LIVE: u64 = 0;

/// Counters of configuration updates.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Updates {
    clusters: u64,
    clusters_rejected: u64,
    listeners: u64,
    listeners_rejected: u64,
}

impl Updates {
    /// Parses the statistics.
    #[must_use]
    pub fn parse(stats: &str) -> Self {
        let mut found = Self::default();
        for (name, value) in values(stats) {
            match name {
                "cluster_manager.cds.update_success" => found.clusters = value,
                "cluster_manager.cds.update_rejected" => found.clusters_rejected = value,
                "listener_manager.lds.update_success" => found.listeners = value,
                "listener_manager.lds.update_rejected" => found.listeners_rejected = value,
                _ => {}
            }
        }
        found
    }

    /// Why the proxy is not ready, if it is not.
    #[must_use]
    pub fn problem(&self) -> Option<String> {
        if self.clusters > 0 && self.listeners > 0 {
            return None;
        }
        let reason = if self.clusters_rejected > 0 || self.listeners_rejected > 0 {
            "configuration from pilot was received but rejected"
        } else if self.clusters == 0 && self.listeners == 0 {
            "no configuration received from pilot: is it running, and does the workload \
             have a certificate?"
        } else {
            "the configuration from pilot is incomplete"
        };
        Some(format!(
            "{reason}; clusters: {} successful, {} rejected; listeners: {} successful, {} rejected",
            self.clusters, self.clusters_rejected, self.listeners, self.listeners_rejected
        ))
    }
}

/// Why Envoy is not live, if it is not.
#[must_use]
pub fn state_problem(stats: &str) -> Option<String> {
    let (mut state, mut workers) = (None, None);
    for (name, value) in values(stats) {
        match name {
            "server.state" => state = Some(value),
            "listener_manager.workers_started" => workers = Some(value),
            _ => {}
        }
    }
    match (state, workers) {
        (Some(LIVE), Some(1)) => None,
        (Some(LIVE), _) => Some("Envoy's workers have not started".to_owned()),
        (Some(state), _) => {
            let name = match state {
                1 => "DRAINING",
                2 => "PRE_INITIALIZING",
                3 => "INITIALIZING",
                _ => "unknown",
            };
            Some(format!("Envoy's state is {name} ({state}), not LIVE"))
        }
        (None, _) => Some("Envoy does not report its state".to_owned()),
    }
}

/// The readiness check and what it has seen so far.
#[derive(Debug)]
pub struct Ready {
    admin: Admin,
    lifecycle: Lifecycle,
    started: Instant,
    startup_seconds: Gauge,
    received: AtomicBool,
    live: AtomicBool,
    last: Mutex<Option<bool>>,
}

impl Ready {
    /// A check that has seen nothing; the startup time is measured from now.
    #[must_use]
    pub fn new(admin: Admin, lifecycle: Lifecycle, startup_seconds: Gauge) -> Self {
        Self {
            admin,
            lifecycle,
            started: Instant::now(),
            startup_seconds,
            received: AtomicBool::new(false),
            live: AtomicBool::new(false),
            last: Mutex::new(None),
        }
    }

    /// Checks now. Conditions that were met once are not checked again: a dead Envoy is noticed on
    /// its own port.
    ///
    /// # Errors
    /// The reason for not being ready.
    pub async fn check(&self) -> Result<(), String> {
        let result = self.judge().await;
        let before = self.last.lock().replace(result.is_ok());
        match &result {
            Ok(()) if before != Some(true) => {
                tracing::info!(after = ?self.started.elapsed(), "Envoy is ready")
            }
            Ok(()) => {}
            Err(reason) => tracing::warn!(reason, "Envoy is not ready"),
        }
        result
    }

    async fn judge(&self) -> Result<(), String> {
        if self.lifecycle.phase() == Phase::Ending {
            return Err("the proxy is terminating".to_owned());
        }
        if !self.received.load(Ordering::Relaxed) {
            let stats = self.admin.stats(UPDATES, LIMIT).await?;
            if let Some(problem) = Updates::parse(&stats).problem() {
                return Err(problem);
            }
            self.received.store(true, Ordering::Relaxed);
        }
        if !self.live.load(Ordering::Relaxed) {
            let stats = self.admin.stats(STATE, LIMIT).await?;
            if let Some(problem) = state_problem(&stats) {
                return Err(problem);
            }
            self.live.store(true, Ordering::Relaxed);
            self.startup_seconds
                .set(self.started.elapsed().as_secs_f64());
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn problem(clusters: (u64, u64), listeners: (u64, u64)) -> Option<String> {
        let (clusters, clusters_rejected) = clusters;
        let (listeners, listeners_rejected) = listeners;
        Updates {
            clusters,
            clusters_rejected,
            listeners,
            listeners_rejected,
        }
        .problem()
    }

    #[test]
    fn three_reasons_are_told_apart() {
        assert!(
            problem((0, 0), (0, 0))
                .unwrap()
                .starts_with("no configuration received")
        );
        assert!(problem((1, 0), (0, 2)).unwrap().contains(
            "rejected; clusters: 1 successful, 0 rejected; listeners: 0 successful, 2 rejected"
        ));
        assert!(problem((1, 0), (0, 0)).unwrap().contains("incomplete"));
        assert_eq!(problem((1, 5), (1, 5)), None);
    }

    #[test]
    fn state_must_be_live_with_workers() {
        assert_eq!(
            state_problem("server.state: 0\nlistener_manager.workers_started: 1\n"),
            None
        );
        assert!(state_problem("server.state: 0\nlistener_manager.workers_started: 0\n").is_some());
        assert!(
            state_problem("server.state: 2\n")
                .unwrap()
                .contains("PRE_INITIALIZING")
        );
        assert!(state_problem("").is_some());
    }

    #[test]
    fn updates_are_read_from_statistics() {
        let text = "cluster_manager.cds.update_rejected: 1\ncluster_manager.cds.update_success: 3\nlistener_manager.lds.update_success: 2\n";
        assert_eq!(
            Updates::parse(text),
            Updates {
                clusters: 3,
                clusters_rejected: 1,
                listeners: 2,
                listeners_rejected: 0
            }
        );
    }
}
