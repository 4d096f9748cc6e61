//! The gRPC service: admits streams and starts their tasks.

use std::{pin::Pin, time::Duration};

use futures::{Stream, StreamExt as _};
use istio_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DiscoveryRequest};
use mesh_common::mcp::TokenBucket;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Request, Response, Status, Streaming};

use super::{
    auth::Peer,
    codec::Framed,
    connection::{Context, Incoming, serve},
    request,
    stream::Variant,
};

#[allow(
    clippy::all,
    clippy::pedantic,
    unreachable_pub,
    missing_debug_implementations
)]
mod generated {
    include!(concat!(
        env!("OUT_DIR"),
        "/envoy.service.discovery.v3.AggregatedDiscoveryService.rs"
    ));
}

use generated::aggregated_discovery_service_server::AggregatedDiscoveryService;
pub use generated::aggregated_discovery_service_server::AggregatedDiscoveryServiceServer;

type Responses = Pin<Box<dyn Stream<Item = Result<Framed, Status>> + Send>>;

/// Serves ADS on one port.
#[derive(Debug)]
pub struct Ads {
    context: Context,
    /// Peers of this port must show a certificate.
    authenticated: bool,
    admission: Mutex<TokenBucket>,
    /// Time between two admissions once the burst is used up.
    interval: Duration,
}

impl Ads {
    /// `per_second` bounds new streams; a burst of one second's worth is let through.
    pub fn new(context: Context, authenticated: bool, per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self {
            context,
            authenticated,
            interval,
            admission: Mutex::new(TokenBucket::new(interval, per_second)),
        }
    }

    /// Waits for the right to open a stream, at most a second.
    async fn admit(&self) -> Result<(), Status> {
        if !self.context.world.published().synced {
            return Err(Status::unavailable(
                "server is not ready to serve discovery information",
            ));
        }
        let deadline = tokio::time::Instant::now() + Duration::from_secs(1);
        loop {
            if self.admission.lock().take(std::time::Instant::now()) {
                return Ok(());
            }
            if tokio::time::Instant::now() + self.interval > deadline {
                self.context.metrics.throttled.inc();
                return Err(Status::resource_exhausted(
                    "too many new discovery streams, try again later",
                ));
            }
            tokio::time::sleep(self.interval).await;
        }
    }

    fn peer<T>(&self, request: &Request<T>) -> Peer {
        if !self.authenticated {
            return Peer::Anonymous;
        }
        match request.extensions().get::<mesh_common::tls::PeerInfo>() {
            Some(info) if !info.certificates.is_empty() => Peer::Identities(info.identities()),
            _ => Peer::Unknown,
        }
    }

    fn start(
        &self,
        variant: Variant,
        peer: Peer,
        address: String,
        requests: impl Incoming + Send + 'static,
    ) -> Responses {
        let (out, responses) = mpsc::channel(1);
        tokio::spawn(serve(
            self.context.clone(),
            variant,
            peer,
            address,
            requests,
            out,
        ));
        Box::pin(ReceiverStream::new(responses))
    }
}

fn address<T>(request: &Request<T>) -> String {
    request
        .extensions()
        .get::<mesh_common::tls::PeerInfo>()
        .map(|info| info.remote)
        .or_else(|| request.remote_addr())
        .map(|address| address.to_string())
        .unwrap_or_default()
}

#[tonic::async_trait]
impl AggregatedDiscoveryService for Ads {
    type StreamAggregatedResourcesStream = Responses;
    type DeltaAggregatedResourcesStream = Responses;

    async fn stream_aggregated_resources(
        &self,
        request: Request<Streaming<DiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        self.admit().await?;
        let (peer, address) = (self.peer(&request), address(&request));
        let requests = request.into_inner().map(|request| {
            request.map(|mut request| (request.node.take(), request::Request::from(request)))
        });
        Ok(Response::new(self.start(
            Variant::Sotw,
            peer,
            address,
            requests,
        )))
    }

    async fn delta_aggregated_resources(
        &self,
        request: Request<Streaming<DeltaDiscoveryRequest>>,
    ) -> Result<Response<Responses>, Status> {
        self.admit().await?;
        let (peer, address) = (self.peer(&request), address(&request));
        let requests = request.into_inner().map(|request| {
            request.map(|mut request| (request.node.take(), request::Request::from(request)))
        });
        Ok(Response::new(self.start(
            Variant::Delta,
            peer,
            address,
            requests,
        )))
    }
}
