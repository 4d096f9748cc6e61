//! Receives the reports of pilots: a sink of the configuration stream.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use istio_api::distribution::{Distribution, NODE, object};
use mesh_common::mcp::sink::{Caller, Desk, Updater};
use mesh_core::mcp::sink::Change;
use tokio::sync::mpsc;

use super::distribution::{Report, Share};
use super::observation::version_hash;

/// Maximum length of a pilot's name; the rest is cut.
const MAX_NODE_BYTES: usize = 256;

/// Receives reports from any number of streams. Backpressure: reports wait in the streams until the
/// writer takes them.
#[derive(Debug, Clone)]
pub struct Reception {
    reports: mpsc::Sender<Report>,
    last_stream: Arc<AtomicU64>,
}

/// Receives the reports of one stream.
#[derive(Debug)]
pub struct Listener {
    stream: u64,
    pilot: Arc<str>,
    reports: mpsc::Sender<Report>,
}

impl Reception {
    /// Sends everything to `reports`.
    pub fn new(reports: mpsc::Sender<Report>) -> Self {
        Self {
            reports,
            last_stream: Arc::default(),
        }
    }
}

impl Desk for Reception {
    type Updater = Listener;

    fn open(&self, caller: Caller) -> Listener {
        let stream = self.last_stream.fetch_add(1, Ordering::Relaxed) + 1;
        let pilot = name(&caller);
        tracing::info!(
            stream,
            pilot = &*pilot,
            identity = caller.identity,
            "a pilot reports which proxies hold configuration"
        );
        Listener {
            stream,
            pilot,
            reports: self.reports.clone(),
        }
    }

    async fn close(&self, listener: Listener) {
        // Nobody receives it when the process ends.
        let _ = self.reports.send(Report::Ended(listener.stream)).await;
    }
}

/// The name that the pilot gives itself, else the host of its address.
fn name(caller: &Caller) -> Arc<str> {
    let node = caller
        .metadata
        .get(NODE)
        .and_then(|node| node.to_str().ok());
    match node.filter(|node| !node.is_empty()) {
        Some(node) => {
            let (node, _) = node.split_at(node.floor_char_boundary(MAX_NODE_BYTES));
            node.into()
        }
        None => match caller.address.parse::<SocketAddr>() {
            Ok(address) => address.ip().to_string().into(),
            Err(_) => caller.address.as_str().into(),
        },
    }
}

impl Updater for Listener {
    async fn apply(&mut self, change: Change) -> Result<(), String> {
        let mut shares = Vec::with_capacity(change.added.len() + change.removed.len());
        for resource in &change.added {
            match Distribution::from_mcp(resource) {
                Ok((key, said)) => {
                    let share = Share {
                        version: version_hash(&said.version),
                        reached: said.reached,
                        held: said.held,
                    };
                    shares.push((key, Some(share)));
                }
                // An invalid resource must not make the others be rejected.
                Err(error) => tracing::warn!(
                    pilot = &*self.pilot,
                    error = %error,
                    "ignored an invalid report"
                ),
            }
        }
        let gone = change.removed.iter().filter_map(|name| object(name).ok());
        shares.extend(gone.map(|key| (key, None)));
        let report = Report::Changed {
            stream: self.stream,
            pilot: self.pilot.clone(),
            shares,
        };
        let sent = self.reports.send(report).await;
        sent.map_err(|_| "galley is shutting down".to_owned())
    }
}
