//! How long Envoy continues after the Pod is asked to terminate.

use std::time::Duration;

use super::admin::{Admin, values};
use crate::bootstrap::stats::ACTIVE_CONNECTIONS;

/// Interval between two counts of open connections.
const COUNT_PERIOD: Duration = Duration::from_secs(1);
/// Timeout of one count.
const COUNT_LIMIT: Duration = Duration::from_secs(2);
/// After this many consecutive failures Envoy is assumed to be gone.
const MAX_FAILURES: u32 = 5;
/// Timeout of the call that starts draining.
const CALL_LIMIT: Duration = Duration::from_secs(5);

/// How to drain.
#[derive(Debug, Clone, Copy)]
pub struct Drain {
    /// The admin interface.
    pub admin: Admin,
    /// A sidecar keeps outbound listeners: the application may still need them.
    pub inbound_only: bool,
    /// Drain time when connections are not counted.
    pub duration: Duration,
    /// Count connections and stop when none is open.
    pub until_idle: bool,
    /// Minimum time before the first count.
    pub minimum: Duration,
    /// Listeners of the agent itself, which are not counted.
    pub own_ports: [u16; 2],
}

impl Drain {
    /// Starts draining and returns when Envoy may be terminated.
    pub async fn run(&self) {
        if let Err(error) = self
            .admin
            .drain_listeners(self.inbound_only, false, CALL_LIMIT)
            .await
        {
            tracing::warn!(error, "cannot start draining");
        }
        if !self.until_idle {
            tracing::info!(wait = ?self.duration, "draining");
            tokio::time::sleep(self.duration).await;
            return;
        }
        tracing::info!(minimum = ?self.minimum, "draining until all connections are closed");
        tokio::time::sleep(self.minimum).await;
        let mut failures = 0;
        loop {
            let filter = format!("{ACTIVE_CONNECTIONS}$");
            match self.admin.stats(&filter, COUNT_LIMIT).await {
                Ok(text) => match active(&text, self.own_ports) {
                    None | Some(0) => return,
                    Some(open) => {
                        failures = 0;
                        tracing::info!(open, "connections are still open");
                    }
                },
                Err(error) => {
                    failures += 1;
                    tracing::warn!(error, failures, "cannot count the open connections");
                    if failures >= MAX_FAILURES {
                        return;
                    }
                }
            }
            tokio::time::sleep(COUNT_PERIOD).await;
        }
    }

    /// Asks clients to go elsewhere while all listeners stay open.
    ///
    /// # Errors
    /// If Envoy does not respond.
    pub async fn announce(&self) -> Result<(), String> {
        self.admin
            .drain_listeners(self.inbound_only, true, CALL_LIMIT)
            .await
    }
}

/// Number of open connections on all listeners that count; `None` if Envoy reports no listener.
fn active(stats: &str, own_ports: [u16; 2]) -> Option<u64> {
    values(stats)
        .filter(|(name, _)| {
            let Some(listener) = name.strip_prefix("listener.") else {
                return false;
            };
            let own = own_ports.iter().any(|port| {
                let address = listener.strip_suffix(&format!("_{port}.{ACTIVE_CONNECTIONS}"));
                address.is_some_and(|address| matches!(address, "0.0.0.0" | "[__]" | "::" | "[::]"))
            });
            !own && !listener.contains("worker_")
                && !listener.starts_with("envoy_internal_")
                && !listener.starts_with("admin.")
        })
        .map(|(_, open)| open)
        .reduce(|sum, open| sum.saturating_add(open))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_listeners_workers_and_admin_do_not_count() {
        let stats = "listener.0.0.0.0_15006.downstream_cx_active: 2\n\
            listener.0.0.0.0_15006.worker_0.downstream_cx_active: 2\n\
            listener.0.0.0.0_15021.downstream_cx_active: 7\n\
            listener.0.0.0.0_15090.downstream_cx_active: 7\n\
            listener.admin.downstream_cx_active: 1\n\
            listener.admin.main_thread.downstream_cx_active: 1\n\
            listener.envoy_internal_x.downstream_cx_active: 5\n\
            listener.10.0.0.1_80.downstream_cx_active: 1\n\
            http.x.downstream_cx_active: 9\n";
        assert_eq!(active(stats, [15021, 15090]), Some(3));
        assert_eq!(
            active("http.x.downstream_cx_active: 9\n", [15021, 15090]),
            None
        );
    }
}
