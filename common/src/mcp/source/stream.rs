//! One stream of a source: the machine between a request stream and a response channel.

use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use prost::Message;
use tokio::sync::{mpsc, watch};
use tonic::{Code, Status};

use super::connections::Connection;
use super::machine::{Machine, Verdict};
use super::metrics::Metrics;
use crate::drain;
use crate::mcp::Snapshot;

/// gRPC's usual receive limit; sinks of 1.1 keep it.
const LARGE_MESSAGE_BYTES: usize = 4 << 20;

/// Where a stream gets its snapshots from; `None` until the first one.
pub type Snapshots = watch::Receiver<Option<Arc<Snapshot>>>;

/// What one stream needs.
#[derive(Debug)]
pub(super) struct Serve {
    pub(super) snapshots: Snapshots,
    pub(super) incremental: bool,
    pub(super) max_age: Duration,
    pub(super) metrics: Metrics,
    pub(super) connection: Connection,
    pub(super) drain: drain::Watch,
}

impl Serve {
    /// Runs until the sink leaves, the stream is old, or the process drains.
    pub(super) async fn run(
        mut self,
        mut requests: impl Stream<Item = Result<RequestResources, Status>> + Unpin,
        responses: mpsc::Sender<Result<Resources, Status>>,
    ) {
        let mut machine = Machine::new(self.incremental);
        let age = tokio::time::sleep(self.max_age);
        tokio::pin!(age);
        let mut source_open = true;
        self.metrics.clients.inc();
        let end = loop {
            let now = Instant::now();
            let due = machine.is_due(now);
            let wake = machine.wake().map(tokio::time::Instant::from_std);
            tokio::select! {
                biased;
                () = self.drain.signaled() => {
                    break Some(Status::unavailable("the source is shutting down"));
                }
                request = requests.next() => match request {
                    None => break None,
                    Some(Err(status)) => {
                        self.metrics.receive_failed(&status);
                        break None;
                    }
                    Some(Ok(request)) => if let Some(status) = self.request(&mut machine, request) {
                        break Some(status);
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
                    Ok(permit) => if let Some(message) = self.respond(&mut machine) {
                        permit.send(Ok(message));
                    },
                    Err(_) => {
                        self.metrics.send_failed(Code::Cancelled);
                        break None;
                    }
                },
                () = tokio::time::sleep_until(wake.unwrap_or_else(tokio::time::Instant::now)),
                    if wake.is_some() && !due => {}
                () = &mut age => break None,
            }
        };
        self.metrics.clients.dec();
        if let Some(status) = end {
            // The sink may be gone or not be reading; it learns of the end either way.
            let _ = tokio::time::timeout(Duration::from_secs(1), responses.send(Err(status))).await;
        }
    }

    fn request(&mut self, machine: &mut Machine, request: RequestResources) -> Option<Status> {
        self.metrics
            .message_sizes
            .observe(request.encoded_len() as f64);
        if let Some(node) = &request.sink_node {
            self.connection.node(&node.id);
        }
        let collection = request.collection.clone();
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
                    "the sink refused a collection; it keeps what it has until the next change"
                );
            }
            Verdict::Stale { nack } => {
                if *nack {
                    self.metrics.nack(&collection, Code::Unknown.into());
                } else {
                    self.metrics.ack(&collection);
                }
                tracing::debug!(conn = self.connection.id, collection, "stale nonce ignored");
            }
            Verdict::TooMany => {
                return Some(Status::invalid_argument(format!(
                    "more than {} collections on one stream",
                    super::machine::MAX_COLLECTIONS
                )));
            }
        }
        self.progress(machine, &collection);
        None
    }

    fn respond(&mut self, machine: &mut Machine) -> Option<Resources> {
        let snapshot = self.snapshots.borrow().clone()?;
        let sent = machine.next(&snapshot, Instant::now())?;
        let collection = &sent.message.collection;
        if sent.unknown && self.metrics.unknown(collection) {
            tracing::warn!(
                conn = self.connection.id,
                collection,
                "a sink asked for a collection that is not known here; answered as empty"
            );
        }
        let bytes = sent.message.encoded_len();
        self.metrics.sent(bytes);
        if bytes > LARGE_MESSAGE_BYTES {
            tracing::warn!(
                conn = self.connection.id,
                collection,
                bytes,
                "response above 4 MiB: a sink with gRPC's usual limit cannot receive it"
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
        Some(sent.message)
    }

    fn progress(&self, machine: &Machine, collection: &str) {
        if let Some(progress) = machine.progress_of(collection) {
            self.connection.progress(collection, progress);
        }
    }
}
