//! The gRPC service of a source.

use std::fmt;
use std::time::Duration;

use istio_api::mcp::v1alpha1::{
    IncrementalMeshConfigRequest, IncrementalMeshConfigResponse, MeshConfigRequest,
    MeshConfigResponse, RequestResources, Resources,
};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::server::NamedService as _;
use tonic::service::Routes;
use tonic::{Request, Response, Status, Streaming};

use super::connections::Connections;
use super::health::Health;
use super::metrics::Metrics;
use super::stream::{End, Snapshots, Source};
use crate::drain;
use crate::grpc::health::health_server::HealthServer;
use crate::grpc::mcp::aggregated_mesh_config_service_server::{
    AggregatedMeshConfigService, AggregatedMeshConfigServiceServer,
};
use crate::grpc::mcp::resource_source_server::{ResourceSource, ResourceSourceServer};
use crate::mcp::admit::{Admission, Rates, SharedAuthorize};
use mesh_core::mcp::wire::{Aggregated, Current, Wire};

/// Time for the final status of a stream to be sent.
const LAST_WORD: Duration = Duration::from_secs(1);

/// Settings of a source.
#[derive(Debug, Clone)]
pub struct Options {
    /// Send deltas to sinks that request them.
    pub incremental: bool,
    /// Maximum age of a stream, ± 10 %, so that sinks spread over replicas.
    pub max_age: Duration,
    /// Maximum size of a request, in bytes.
    pub max_request_bytes: usize,
    /// Maximum number of open streams over all connections.
    pub max_streams: usize,
    /// Interval between new streams, after the burst.
    pub connect_interval: Duration,
    /// Burst of new streams.
    pub connect_burst: u32,
    /// Interval between logged rejections, after the burst.
    pub refusal_log_interval: Duration,
    /// Burst of logged rejections.
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
    options: Options,
    admission: Admission,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

impl Server {
    /// Serves the snapshots of `snapshots`; requests before the first one are held open.
    pub fn new(
        snapshots: Snapshots,
        authorize: SharedAuthorize,
        options: Options,
        metrics: Metrics,
        drain: drain::Watch,
    ) -> Self {
        let rates = Rates {
            connect_interval: options.connect_interval,
            connect_burst: options.connect_burst,
            log_interval: options.refusal_log_interval,
            log_burst: options.refusal_log_burst,
        };
        Self {
            source: Source::new(snapshots, options.incremental, metrics, drain),
            admission: Admission::new(authorize, rates),
            options,
        }
    }

    /// The open streams.
    pub fn connections(&self) -> Connections {
        self.source.connections.clone()
    }

    /// The parts that are shared with a stream to a sink that is called.
    pub fn source(&self) -> Source {
        self.source.clone()
    }

    /// The admission, for another service on the same port.
    pub fn admission(&self) -> Admission {
        self.admission.clone()
    }

    /// All services: `ResourceSource`, `AggregatedMeshConfigService`, and `grpc.health.v1.Health`,
    /// which reports them as serving once there is a snapshot.
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

    fn open<W: Wire>(
        &self,
        service: &'static str,
        request: Request<Streaming<W::Request>>,
    ) -> Result<Response<Responses<W::Response>>, Status> {
        let is_full = self.source.connections.len() >= self.options.max_streams;
        let admitted = self.admission.admit(&request, is_full);
        let peer = admitted.map_err(|refusal| {
            self.source.metrics.refused(refusal.label);
            refusal.status
        })?;
        let age = self.options.max_age;
        let age = age.mul_f64(rand::random_range(0.9..=1.1));
        let serve = self.source.open(service, peer.address, peer.identity, age);
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
            // A request that cannot be decoded is the peer's fault, which it learns from the
            // status.
            if let End::Refused(status) | End::Peer(Some(status)) = end {
                // The sink may be gone or not be reading; the end of the stream reaches it in any
                // case.
                let _ = tokio::time::timeout(LAST_WORD, tx.send(Err(status))).await;
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
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
