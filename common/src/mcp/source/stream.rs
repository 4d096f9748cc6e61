//! One stream of a source: the machine between a request stream and a response channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use istio_api::mcp::v1alpha1::Resources;
use prometheus::IntGauge;
use prost::Message;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

use super::connections::{Connection, Connections};
use super::metrics::Metrics;
use crate::drain;
use crate::mcp::dial::last_word;
use mesh_core::mcp::Snapshot;
use mesh_core::mcp::source::{Dialect, MAX_COLLECTIONS, MAX_NAME_BYTES, Machine, Request, Verdict};
use mesh_core::mcp::wire::Wire;

/// The default receive limit of gRPC, which sinks of 1.1 have.
const LARGE_MESSAGE_BYTES: usize = 4 << 20;

/// Where a stream gets its snapshots; `None` until the first one.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// State that all streams of a source share, whoever opens them. Clones share it, too.
#[derive(Debug, Clone)]
pub struct Source {
    pub(super) snapshots: Snapshots,
    pub(super) incremental: bool,
    pub(super) metrics: Metrics,
    pub(super) connections: Connections,
    pub(super) drain: drain::Watch,
}

impl Source {
    /// Serves the snapshots of `snapshots`. `incremental`: sinks that request deltas get them.
    pub fn new(
        snapshots: Snapshots,
        incremental: bool,
        metrics: Metrics,
        drain: drain::Watch,
    ) -> Self {
        Self {
            snapshots,
            incremental,
            metrics,
            connections: Connections::default(),
            drain,
        }
    }

    /// A stream of `service` with this peer.
    pub(super) fn open(
        &self,
        service: &'static str,
        peer: String,
        identity: String,
        max_age: Duration,
    ) -> Serve {
        let mut snapshots = self.snapshots.clone();
        // A subscription is answered from the present snapshot; only later ones are changes.
        snapshots.mark_unchanged();
        Serve {
            snapshots,
            incremental: self.incremental,
            max_age,
            _counted: Counted::new(self.metrics.clients.clone()),
            metrics: self.metrics.clone(),
            connection: self.connections.open(service, peer, identity),
            drain: self.drain.clone(),
            told_of_unknown: false,
        }
    }
}

/// Counts in a gauge while it exists.
#[derive(Debug)]
struct Counted(IntGauge);

impl Counted {
    fn new(gauge: IntGauge) -> Self {
        gauge.inc();
        Self(gauge)
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.dec();
    }
}

/// State of one stream.
#[derive(Debug)]
pub(super) struct Serve {
    snapshots: Snapshots,
    incremental: bool,
    max_age: Duration,
    metrics: Metrics,
    pub(super) connection: Connection,
    _counted: Counted,
    drain: drain::Watch,
    /// Whether an unknown collection was reported: once per stream.
    told_of_unknown: bool,
}

/// How a stream ended.
#[derive(Debug)]
pub(super) enum End {
    /// The peer closed it, or it broke.
    Peer(Option<Status>),
    /// It reached its maximum age.
    Age,
    /// We end it, with a status for the peer.
    Refused(Status),
}

impl Serve {
    /// Runs until the sink disconnects, the stream reaches its maximum age, or the process drains.
    pub(super) async fn run<W: Wire>(
        mut self,
        mut requests: impl Stream<Item = Result<W::Request, Status>> + Unpin,
        responses: &mpsc::Sender<Result<W::Response, Status>>,
    ) -> End {
        let mut machine = Machine::new(W::DIALECT, self.incremental);
        let age = tokio::time::sleep(self.max_age);
        tokio::pin!(age);
        let mut source_open = true;
        loop {
            let now = Instant::now();
            let due = machine.is_due(now);
            let wake = machine.wake().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = self.drain.signaled() => {
                    return End::Refused(Status::unavailable("the source is shutting down"));
                }
                request = requests.next() => match request {
                    None => return End::Peer(None),
                    Some(Err(status)) => {
                        self.metrics.receive_failed(&status);
                        return End::Peer(Some(status));
                    }
                    Some(Ok(request)) => {
                        self.metrics.message_sizes.observe(request.encoded_len() as f64);
                        if let Err(status) = self.request(&mut machine, W::request(request)) {
                            return End::Refused(status);
                        }
                    }
                },
                changed = self.snapshots.changed(), if source_open => match changed {
                    Ok(()) => {
                        let snapshot = self.snapshots.borrow_and_update().clone();
                        if let Some(snapshot) = snapshot {
                            machine.snapshot(&snapshot);
                        }
                    }
                    Err(_) => source_open = false,
                },
                permit = responses.reserve(), if due => match permit {
                    Ok(permit) => match self.respond(&mut machine, W::DIALECT) {
                        Ok(Some(message)) => permit.send(Ok(W::response(message))),
                        Ok(None) => {}
                        Err(status) => return End::Refused(status),
                    },
                    Err(_) => {
                        self.metrics.send_failed(Code::Cancelled);
                        return End::Peer(last_word(requests).await);
                    }
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)),
                    if wake.is_some() && !due => {}
                () = &mut age => return End::Age,
            }
        }
    }

    fn request(&self, machine: &mut Machine, request: Request) -> Result<(), Status> {
        if let Some(node) = &request.message.sink_node {
            self.connection.node(&node.id);
        }
        let collection = request.message.collection.clone();
        let snapshot = self.snapshots.borrow().clone();
        let verdict = machine.request(request, snapshot.as_deref(), Instant::now());
        match &verdict {
            Verdict::Subscribe => {
                tracing::debug!(conn = self.connection.id, collection, "subscribed")
            }
            Verdict::Ack { after } => {
                self.metrics.ack(&collection);
                self.metrics.push_seconds.observe(after.as_secs_f64());
            }
            Verdict::Nack { code, message } => {
                self.metrics.nack(&collection, *code);
                tracing::warn!(
                    conn = self.connection.id,
                    collection,
                    code = %Code::from(*code),
                    error = message,
                    "the sink rejected a collection; it keeps its state until the next change"
                );
            }
            Verdict::Stale { nack } => {
                match nack {
                    Some(code) => self.metrics.nack(&collection, *code),
                    None => self.metrics.ack(&collection),
                }
                tracing::debug!(conn = self.connection.id, collection, "stale nonce ignored");
            }
            Verdict::TooMany => {
                return Err(self.refused(format!(
                    "more than {} collections on one stream",
                    MAX_COLLECTIONS
                )));
            }
            Verdict::LongName => {
                return Err(self.refused(format!(
                    "the name of a collection has {} bytes, the limit is {}",
                    collection.len(),
                    MAX_NAME_BYTES
                )));
            }
        }
        self.progress(machine, &collection);
        Ok(())
    }

    /// Ends the stream because of an invalid request.
    fn refused(&self, reason: String) -> Status {
        self.metrics.refused("request");
        tracing::warn!(
            conn = self.connection.id,
            error = reason,
            "ended the stream of a sink"
        );
        Status::invalid_argument(reason)
    }

    fn respond(
        &mut self,
        machine: &mut Machine,
        dialect: Dialect,
    ) -> Result<Option<Resources>, Status> {
        let Some(snapshot) = self.snapshots.borrow().clone() else {
            return Ok(None);
        };
        let Some(sent) = machine.next(&snapshot, Instant::now()) else {
            return Ok(None);
        };
        let collection = &sent.message.collection;
        if sent.unknown {
            self.metrics.unknown(collection);
            // Sinks of the older service do not know newer collections.
            if dialect == Dialect::Aggregated {
                return Err(self.refused(format!("unsupported collection {collection:?}")));
            }
            if !self.told_of_unknown {
                self.told_of_unknown = true;
                tracing::warn!(
                    conn = self.connection.id,
                    collection,
                    "a sink requested an unknown collection; it is answered as empty, and \
                     so are others on this stream"
                );
            }
        }
        let bytes = sent.message.encoded_len();
        self.metrics.sent(bytes);
        if bytes > LARGE_MESSAGE_BYTES {
            tracing::warn!(
                conn = self.connection.id,
                collection,
                bytes,
                "the response exceeds 4 MiB: sinks with gRPC's default limit cannot receive it"
            );
        }
        tracing::debug!(
            conn = self.connection.id,
            collection,
            version = sent.message.system_version_info,
            resources = sent.message.resources.len(),
            removed = sent.message.removed_resources.len(),
            incremental = sent.message.incremental,
            "sent"
        );
        self.progress(machine, collection);
        Ok(Some(sent.message))
    }

    fn progress(&self, machine: &Machine, collection: &str) {
        if let Some(progress) = machine.progress_of(collection) {
            self.connection.progress(collection, progress);
        }
    }
}
