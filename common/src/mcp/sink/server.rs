//! A sink that sources call: serves `ResourceSink`.

use std::fmt;
use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Request, Response, Status, Streaming};

use super::metrics::Metrics;
use super::take::take;
use super::updater::Updater;
use crate::drain;
use crate::grpc::mcp::resource_sink_server::{ResourceSink, ResourceSinkServer};
use crate::mcp::admit::Admission;
use mesh_core::mcp::sink::Machine;

/// Time for the final status of a stream to be sent.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Settings of a sink.
#[derive(Debug, Clone)]
pub struct ServerOptions {
    /// Our name, as sent to the sources: `<pod>.<namespace>`.
    pub node_id: String,
    /// Collections that are requested from every source.
    pub collections: Vec<String>,
    /// Maximum size of a message, in bytes.
    pub max_message_bytes: usize,
    /// Maximum number of open streams over all connections.
    pub max_streams: usize,
}

/// A source that has opened a stream.
#[derive(Debug, Clone)]
pub struct Caller {
    /// Its address, empty if unknown.
    pub address: String,
    /// Identity in its certificate, empty for plaintext.
    pub identity: String,
    /// Metadata of the call.
    pub metadata: MetadataMap,
}

/// Receives what all sources send, with one updater per stream.
pub trait Desk: Clone + Send + Sync + 'static {
    /// Receives what one stream sends.
    type Updater: Updater;

    /// A stream begins.
    fn open(&self, caller: Caller) -> Self::Updater;

    /// A stream has ended; its updater gets nothing more.
    fn close(&self, updater: Self::Updater) -> impl Future<Output = ()> + Send;
}

/// Serves `ResourceSink`. Each stream begins without held resources.
#[derive(Clone)]
pub struct Server<D> {
    options: Arc<ServerOptions>,
    desk: D,
    admission: Admission,
    metrics: Metrics,
    streams: Arc<AtomicUsize>,
    drain: drain::Watch,
}

impl<D> fmt::Debug for Server<D> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl<D: Desk> Server<D> {
    /// Admits the peers that `admission` accepts.
    pub fn new(
        options: ServerOptions,
        desk: D,
        admission: Admission,
        metrics: Metrics,
        drain: drain::Watch,
    ) -> Self {
        Self {
            options: Arc::new(options),
            desk,
            admission,
            metrics,
            streams: Arc::default(),
            drain,
        }
    }

    /// The service.
    pub fn service(self) -> ResourceSinkServer<Self> {
        let limit = self.options.max_message_bytes;
        ResourceSinkServer::new(self).max_decoding_message_size(limit)
    }

    fn admit(&self, request: &Request<Streaming<Resources>>) -> Result<Caller, Status> {
        let is_full = self.streams.load(Ordering::Relaxed) >= self.options.max_streams;
        let admitted = self.admission.admit(request, is_full);
        let admitted = admitted.map_err(|refusal| {
            self.metrics.refused(refusal.label);
            refusal.status
        })?;
        Ok(Caller {
            address: admitted.address,
            identity: admitted.identity,
            metadata: request.metadata().clone(),
        })
    }

    /// Runs one stream to its end; returns the status for the source.
    async fn run(
        &self,
        updater: &mut D::Updater,
        mut messages: Streaming<Resources>,
        requests: &Requests,
    ) -> Result<(), Status> {
        let collections = self.options.collections.iter().cloned();
        let mut machine = Machine::new(&self.options.node_id, collections, true);
        for request in machine.open(Instant::now()) {
            if requests.send(Ok(request)).await.is_err() {
                return Ok(());
            }
        }
        loop {
            let message = tokio::select! {
                biased;
                () = self.drain.signaled() => {
                    return Err(Status::unavailable("the sink is shutting down"));
                }
                // The source may have disconnected without reading the error.
                () = requests.closed() => return Ok(()),
                message = messages.message() => message,
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => return Ok(()),
                Err(status) => {
                    self.metrics.receive_failed(status.code());
                    return Err(status);
                }
            };
            // The message that opens a stream has no collection and no nonce.
            if message.nonce.is_empty() && !message.collection.is_empty() {
                return Err(Status::invalid_argument(format!(
                    "the message of {} has no nonce",
                    message.collection
                )));
            }
            let reply = take(&mut machine, updater, &self.metrics, message).await;
            if requests.send(Ok(reply)).await.is_err() {
                return Ok(());
            }
        }
    }
}

type Requests = mpsc::Sender<Result<RequestResources, Status>>;

/// An open stream, counted while it exists.
struct Counted(Arc<AtomicUsize>);

impl Counted {
    fn new(streams: &Arc<AtomicUsize>) -> Self {
        streams.fetch_add(1, Ordering::Relaxed);
        Self(streams.clone())
    }
}

impl Drop for Counted {
    fn drop(&mut self) {
        self.0.fetch_sub(1, Ordering::Relaxed);
    }
}

#[tonic::async_trait]
impl<D: Desk> ResourceSink for Server<D> {
    type EstablishResourceStreamStream = ReceiverStream<Result<RequestResources, Status>>;

    async fn establish_resource_stream(
        &self,
        request: Request<Streaming<Resources>>,
    ) -> Result<Response<Self::EstablishResourceStreamStream>, Status> {
        let caller = self.admit(&request)?;
        let counted = Counted::new(&self.streams);
        tracing::info!(peer = caller.address, "a source has connected");
        self.metrics.reconnections.inc();
        let (tx, rx) = mpsc::channel(1);
        let messages = request.into_inner();
        let server = self.clone();
        tokio::spawn(async move {
            let peer = caller.address.clone();
            let mut updater = server.desk.open(caller);
            let end = server.run(&mut updater, messages, &tx).await;
            server.desk.close(updater).await;
            drop(counted);
            tracing::info!(peer, error = ?end.as_ref().err(), "the stream of a source has ended");
            if let Err(status) = end {
                // The source may be gone or not be reading; the end of the stream reaches it in any
                // case.
                let _ = tokio::time::timeout(LAST_WORD, tx.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}
