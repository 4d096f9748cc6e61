//! The gRPC service of a source.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use istio_api::mcp::v1alpha1::{
    IncrementalMeshConfigRequest, IncrementalMeshConfigResponse, MeshConfigRequest,
    MeshConfigResponse, RequestResources, Resources,
};
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::connections::Connections;
use super::health::Health;
use super::metrics::Metrics;
use super::stream::{End, Snapshots, Source};
use super::wire::{Aggregated, Current, Wire};
use crate::drain;
use crate::grpc::health::health_server::HealthServer;
use crate::grpc::mcp::aggregated_mesh_config_service_server::{
    AggregatedMeshConfigService, AggregatedMeshConfigServiceServer,
};
use crate::grpc::mcp::resource_source_server::{ResourceSource, ResourceSourceServer};
use crate::mcp::limit::{LogLimit, TokenBucket};
use crate::tls::PeerInfo;

/// Decides which peer may open a stream.
pub trait Authorize: Send + Sync + 'static {
    /// `identities`: the URI names of the verified leaf certificate, `None` on plain text. Gives
    /// the identity to show, or the reason of the refusal.
    fn authorize(&self, identities: Option<&[String]>) -> Result<String, String>;
}

/// Time for the status that ends a stream to find room.
const LAST_WORD: Duration = Duration::from_secs(1);

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
    /// Streams open at the same time, over all connections.
    pub max_streams: usize,
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
            max_streams: 10_000,
            connect_interval: Duration::from_millis(10),
            connect_burst: 10,
            refusal_log_interval: Duration::from_secs(60),
            refusal_log_burst: 1,
        }
    }
}

/// The responses of a stream.
type Responses<T> = ReceiverStream<Result<T, Status>>;

/// Serves `ResourceSource` and the older `AggregatedMeshConfigService`.
#[derive(Clone)]
pub struct Server {
    source: Source,
    authorize: SharedAuthorize,
    options: Options,
    admission: Arc<Mutex<TokenBucket>>,
    refusals: Arc<Mutex<LogLimit>>,
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
            source: Source {
                snapshots,
                incremental: options.incremental,
                metrics,
                connections: Connections::default(),
                drain,
            },
            authorize,
            options,
            admission: Arc::new(Mutex::new(admission)),
            refusals: Arc::new(Mutex::new(refusals)),
        }
    }

    /// The open streams.
    pub fn connections(&self) -> Connections {
        self.source.connections.clone()
    }

    /// What the streams share with one that is opened to a sink.
    pub(super) fn source(&self) -> Source {
        self.source.clone()
    }

    /// All services: `ResourceSource`, `AggregatedMeshConfigService`, and `grpc.health.v1.Health`,
    /// which says that these serve once there is a snapshot.
    pub fn routes(&self) -> Routes {
        let limit = self.options.max_request_bytes;
        let newer = ResourceSourceServer::new(self.clone()).max_decoding_message_size(limit);
        let older = AggregatedMeshConfigServiceServer::new(self.clone());
        let health = Health::new(
            self.source.snapshots.clone(),
            self.source.drain.clone(),
            vec![
                ResourceSourceServer::<Self>::NAME,
                AggregatedMeshConfigServiceServer::<Self>::NAME,
            ],
        );
        Routes::new(newer)
            .add_service(older.max_decoding_message_size(limit))
            .add_service(HealthServer::new(health).max_decoding_message_size(limit))
    }

    fn admit<T>(&self, request: &Request<T>) -> Result<(String, String), Status> {
        if !self.admission.lock().take(Instant::now()) {
            self.source.metrics.refused("rate");
            return Err(Status::resource_exhausted(
                "too many new streams, try again later",
            ));
        }
        if self.source.connections.len() >= self.options.max_streams {
            self.source.metrics.refused("streams");
            return Err(Status::resource_exhausted(
                "too many open streams, try again later",
            ));
        }
        let (address, identities) = peer(request);
        match self.authorize.authorize(identities.as_deref()) {
            Ok(identity) => Ok((address, identity)),
            Err(reason) => {
                self.source.metrics.refused("identity");
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

    fn open<W: Wire>(
        &self,
        service: &'static str,
        request: Request<Streaming<W::Request>>,
    ) -> Result<Response<Responses<W::Response>>, Status> {
        let (peer, identity) = self.admit(&request)?;
        let age = self.options.max_age;
        let age = age.mul_f64(rand::random_range(0.9..=1.1));
        let serve = self.source.open(service, peer, identity, age);
        tracing::info!(
            conn = serve.connection.id,
            service,
            streams = self.source.connections.len(),
            "a sink has connected"
        );
        let (tx, rx) = mpsc::channel(1);
        let requests = request.into_inner();
        tokio::spawn(async move {
            let end = serve.run::<W>(requests, &tx).await;
            // A request that cannot be read is the peer's fault, and it does not know of it.
            if let End::Refused(status) | End::Peer(Some(status)) = end {
                // The sink may be gone or not be reading; it learns of the end either way.
                let _ = tokio::time::timeout(LAST_WORD, tx.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
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
    type EstablishResourceStreamStream = Responses<Resources>;

    async fn establish_resource_stream(
        &self,
        request: Request<Streaming<RequestResources>>,
    ) -> Result<Response<Self::EstablishResourceStreamStream>, Status> {
        self.open::<Current>("ResourceSource", request)
    }
}

#[tonic::async_trait]
impl AggregatedMeshConfigService for Server {
    type StreamAggregatedResourcesStream = Responses<MeshConfigResponse>;
    type IncrementalAggregatedResourcesStream = Responses<IncrementalMeshConfigResponse>;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<MeshConfigRequest>>,
    ) -> Result<Response<Self::StreamAggregatedResourcesStream>, Status> {
        self.open::<Aggregated>("AggregatedMeshConfigService", request)
    }

    async fn incremental_aggregated_resources(
        &self,
        _: Request<Streaming<IncrementalMeshConfigRequest>>,
    ) -> Result<Response<Self::IncrementalAggregatedResourcesStream>, Status> {
        Err(Status::unimplemented("not implemented"))
    }
}
