//! The gRPC service of a source.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::connections::Connections;
use super::metrics::Metrics;
use super::stream::{Serve, Snapshots};
use crate::drain;
use crate::grpc::mcp::resource_source_server::{ResourceSource, ResourceSourceServer};
use crate::mcp::limit::{LogLimit, TokenBucket};
use crate::tls::PeerInfo;

/// Decides which peer may open a stream.
pub trait Authorize: Send + Sync + 'static {
    /// `identities`: the URI names of the verified leaf certificate, `None` on plain text. Gives
    /// the identity to show, or the reason of the refusal.
    fn authorize(&self, identities: Option<&[String]>) -> Result<String, String>;
}

/// The decision that a server shares between its streams.
pub type SharedAuthorize = Arc<dyn Authorize>;

/// How a source serves.
#[derive(Debug, Clone)]
pub struct Options {
    /// Sinks that ask for deltas get them.
    pub incremental: bool,
    /// A stream ends after this time, give or take a tenth, so that sinks spread over replicas.
    pub max_age: Duration,
    /// Largest request in bytes.
    pub max_request_bytes: usize,
    /// New streams: one per interval.
    pub connect_interval: Duration,
    /// New streams at once.
    pub connect_burst: u32,
    /// Refusals logged: one per interval.
    pub refusal_log_interval: Duration,
    /// Refusals logged at once.
    pub refusal_log_burst: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            incremental: true,
            max_age: Duration::from_secs(30 * 60),
            max_request_bytes: 1 << 20,
            connect_interval: Duration::from_millis(10),
            connect_burst: 10,
            refusal_log_interval: Duration::from_secs(60),
            refusal_log_burst: 1,
        }
    }
}

/// Serves `istio.mcp.v1alpha1.ResourceSource`.
#[derive(Clone)]
pub struct Server {
    snapshots: Snapshots,
    authorize: SharedAuthorize,
    options: Options,
    metrics: Metrics,
    connections: Connections,
    admission: Arc<Mutex<TokenBucket>>,
    refusals: Arc<Mutex<LogLimit>>,
    drain: drain::Watch,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Serves what `snapshots` holds; requests that come before the first one are held open.
    pub fn new(
        snapshots: Snapshots,
        authorize: SharedAuthorize,
        options: Options,
        metrics: Metrics,
        drain: drain::Watch,
    ) -> Self {
        let admission = TokenBucket::new(options.connect_interval, options.connect_burst);
        let refusals = LogLimit::new(options.refusal_log_interval, options.refusal_log_burst);
        Self {
            snapshots,
            authorize,
            options,
            metrics,
            connections: Connections::default(),
            admission: Arc::new(Mutex::new(admission)),
            refusals: Arc::new(Mutex::new(refusals)),
            drain,
        }
    }

    /// The open streams.
    pub fn connections(&self) -> Connections {
        self.connections.clone()
    }

    /// The tonic service, with its receive limit.
    pub fn service(&self) -> ResourceSourceServer<Self> {
        ResourceSourceServer::new(self.clone())
            .max_decoding_message_size(self.options.max_request_bytes)
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(String, String), Status> {
        if !self.admission.lock().take(Instant::now()) {
            self.metrics.refused("rate");
            return Err(Status::resource_exhausted(
                "too many new streams, try again later",
            ));
        }
        let (address, identities) = peer(request);
        match self.authorize.authorize(identities.as_deref()) {
            Ok(identity) => Ok((address, identity)),
            Err(reason) => {
                self.metrics.refused("identity");
                if let Some(held_back) = self.refusals.lock().allow(Instant::now()) {
                    tracing::warn!(
                        peer = address,
                        ?identities,
                        error = reason,
                        held_back,
                        "refused a sink"
                    );
                }
                Err(Status::unauthenticated(format!(
                    "Authentication failure: {reason}"
                )))
            }
        }
    }

    fn serve(&self, peer: String, identity: String) -> Serve {
        let age = self.options.max_age.mul_f64(rand::random_range(0.9..=1.1));
        let connection = self.connections.open(peer, identity);
        Serve {
            snapshots: self.snapshots.clone(),
            incremental: self.options.incremental,
            max_age: age,
            metrics: self.metrics.clone(),
            connection,
            drain: self.drain.clone(),
        }
    }
}

/// Address and certificate identities of whoever sent the request.
fn peer<T>(request: &Request<T>) -> (String, Option<Vec<String>>) {
    if let Some(peer) = request.extensions().get::<PeerInfo>() {
        return (peer.remote.to_string(), Some(peer.identities()));
    }
    let address = request.remote_addr().map(|address| address.to_string());
    (address.unwrap_or_default(), None)
}

#[tonic::async_trait]
impl ResourceSource for Server {
    type EstablishResourceStreamStream = ReceiverStream<Result<Resources, Status>>;

    async fn establish_resource_stream(
        &self,
        request: Request<Streaming<RequestResources>>,
    ) -> Result<Response<Self::EstablishResourceStreamStream>, Status> {
        let (peer, identity) = self.admit(&request)?;
        let mut serve = self.serve(peer, identity);
        // The stream must see the present snapshot although it has been there for long.
        serve.snapshots.mark_unchanged();
        tracing::info!(
            conn = serve.connection.id,
            streams = self.connections.len(),
            "a sink has connected"
        );
        let (tx, rx) = mpsc::channel(1);
        tokio::spawn(serve.run(request.into_inner(), tx));
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}
