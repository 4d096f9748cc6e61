//! A sink that notes when it received what.

use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::Context as _;
use istio_api::collections::{COLLECTIONS, SYNTHETIC_SERVICE_ENTRIES};
use mesh_common::drain;
use mesh_common::mcp::sink::{self, Client, Dial, Handle, Metrics, Options, Updater};
use mesh_common::metrics::Registry;
use mesh_core::mcp::sink::Change;
use parking_lot::Mutex;
use tokio::sync::watch;

use super::fixture::MARK;

/// What all sinks wait for: a resource with a mark.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Name of the resource.
    pub name: String,
    /// Value of its label.
    pub mark: String,
}

/// A running sink.
#[derive(Debug)]
pub struct Sink {
    handle: Handle,
    seen: Arc<Mutex<Seen>>,
    met: watch::Receiver<u64>,
    _running: drain::Trigger,
}

/// What it received.
#[derive(Debug, Default)]
pub struct Seen {
    /// When the last wanted change came.
    pub at: Option<Instant>,
    /// Resources that were given, over all messages.
    pub given: u64,
}

struct Recorder {
    wanted: watch::Receiver<Wanted>,
    seen: Arc<Mutex<Seen>>,
    met: watch::Sender<u64>,
}

impl Updater for Recorder {
    async fn apply(&mut self, change: Change) -> Result<(), String> {
        let now = Instant::now();
        let wanted = self.wanted.borrow().clone();
        let is_wanted = change.added.iter().any(|resource| {
            let metadata = resource.metadata.as_ref();
            metadata.is_some_and(|metadata| {
                metadata.name == wanted.name && metadata.labels.get(MARK) == Some(&wanted.mark)
            })
        });
        {
            let mut seen = self.seen.lock();
            seen.given += change.added.len() as u64;
            if is_wanted {
                seen.at = Some(now);
            }
        }
        if is_wanted {
            self.met.send_modify(|count| *count += 1);
        }
        Ok(())
    }
}

impl Sink {
    /// Connects to galley at `address`.
    ///
    /// # Errors
    /// When the address is none.
    pub fn start(address: &str, wanted: watch::Receiver<Wanted>) -> anyhow::Result<Self> {
        let source = format!("mcp://{address}");
        let collections = COLLECTIONS.iter().chain([&SYNTHETIC_SERVICE_ENTRIES]);
        let options = Options {
            source: source.clone(),
            node_id: "bench".to_owned(),
            collections: collections.map(|row| row.name.to_owned()).collect(),
            ..Options::default()
        };
        let seen = Arc::<Mutex<Seen>>::default();
        let (met_tx, met) = watch::channel(0);
        let recorder = Recorder {
            wanted,
            seen: Arc::clone(&seen),
            met: met_tx,
        };
        let metrics = sink::Metrics::register(&Registry::empty(), "bench");
        let (client, handle) = connect(options, &source, recorder, metrics)?;
        let (running, drain) = drain::channel();
        tokio::spawn(client.run(drain));
        Ok(Self {
            handle,
            seen,
            met,
            _running: running,
        })
    }

    /// Waits until every collection came.
    ///
    /// # Errors
    /// After `patience`.
    pub async fn synced(&self, patience: Duration) -> anyhow::Result<()> {
        let synced = tokio::time::timeout(patience, self.handle.synced()).await;
        synced.with_context(|| format!("not synchronised after {patience:?}"))
    }

    /// Waits until what is wanted came once more than `before` times.
    ///
    /// # Errors
    /// After `patience`.
    pub async fn met(&mut self, before: u64, patience: Duration) -> anyhow::Result<Instant> {
        let met = tokio::time::timeout(patience, self.met.wait_for(|count| *count > before)).await;
        met.with_context(|| format!("the change did not come within {patience:?}"))??;
        self.seen.lock().at.context("a time")
    }

    /// How often what was wanted came.
    pub fn count(&self) -> u64 {
        *self.met.borrow()
    }

    /// Resources that were given so far.
    pub fn given(&self) -> u64 {
        self.seen.lock().given
    }
}

fn connect(
    options: Options,
    source: &str,
    recorder: Recorder,
    metrics: Metrics,
) -> anyhow::Result<(Client<Recorder>, Handle)> {
    let dial = Dial::new(source, None, None)?;
    Ok(Client::new(options, dial, recorder, metrics))
}
