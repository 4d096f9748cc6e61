//! The task that creates the reports.

use std::{sync::Arc, time::Duration};

use anyhow::Context as _;
use mesh_common::drain;
use mesh_core::mcp::Snapshot;
use tokio::{sync::watch, time::MissedTickBehavior};

use super::{WorldState, ledger::Ledger};
use crate::{world, xds::registry::Registry};

/// The latest report; `None` before the first.
pub type Reports = watch::Sender<Option<Arc<Snapshot>>>;

/// Creates a report every `interval`, if there is anything new, until the process drains.
pub async fn follow(
    world: world::Handle,
    streams: Registry,
    reports: Reports,
    interval: Duration,
    drain: drain::Watch,
) {
    let mut ticks = tokio::time::interval(interval.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut ledger = Ledger::default();
    loop {
        tokio::select! {
            () = drain.signaled() => return,
            _ = ticks.tick() => {}
        }
        ledger = match round(ledger, &world, &streams, &reports).await {
            Ok(ledger) => ledger,
            Err(error) => {
                // Without its writer the process ends.
                tracing::error!(error = %error, "reports to galleys stopped");
                return;
            }
        };
    }
}

async fn round(
    mut ledger: Ledger,
    world: &world::Handle,
    streams: &Registry,
    reports: &Reports,
) -> anyhow::Result<Ledger> {
    let state = world.inspect(WorldState::of).await?;
    let streams = streams.clone();
    let counted = tokio::task::spawn_blocking(move || {
        let taken = streams.all_taken();
        let news = ledger.round(&state, &taken, std::time::Instant::now());
        (ledger, news)
    });
    let (ledger, news) = counted.await.context("counting proxies")?;
    if news.is_some() {
        reports.send_replace(news);
    }
    Ok(ledger)
}
