//! The gRPC service: admits streams and starts their tasks.

use pilot_xds::stream::Variant;
use std::{
    convert::Infallible,
    pin::Pin,
    sync::Arc,
    task::{Context as TaskContext, Poll},
    time::Duration,
};

use http::{HeaderValue, header::CONTENT_TYPE};
use mesh_core::rate::TokenBucket;
use parking_lot::Mutex;
use tokio::sync::mpsc;
use tonic::{Request, Status, body::Body, server::NamedService};

use super::{
    auth::Peer,
    codec,
    connection::{Context, serve},
};

/// Serves ADS on one port.
#[derive(Clone, Debug)]
pub struct Ads(Arc<Port>);

#[derive(Debug)]
struct Port {
    context: Context,
    /// Whether peers of this port must present a certificate.
    authenticated: bool,
    admission: Mutex<TokenBucket>,
    /// Time between two admissions after the burst.
    interval: Duration,
}

impl Ads {
    /// `per_second` limits new streams; the burst is that of one second.
    pub fn new(context: Context, authenticated: bool, per_second: u32) -> Self {
        let interval = Duration::from_secs(1) / per_second.max(1);
        Self(Arc::new(Port {
            context,
            authenticated,
            interval,
            admission: Mutex::new(TokenBucket::new(interval, per_second)),
        }))
    }
}

impl Port {
    /// Waits for admission of a new stream, at most a second.
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

    /// Starts the task of a stream, whose responses are the body of the result.
    async fn open(&self, variant: Variant, request: http::Request<Body>) -> Result<Body, Status> {
        let request = Request::from_http(request);
        self.admit().await?;
        let (peer, address) = (self.peer(&request), address(&request));
        let requests = codec::requests(variant, request.into_inner());
        let (out, responses) = mpsc::channel(1);
        let context = self.context.clone();
        tokio::spawn(serve(context, variant, peer, address, requests, out));
        Ok(Body::new(codec::Body::new(responses)))
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

/// The variant of a request path.
fn variant(path: &str) -> Option<Variant> {
    match path.strip_prefix("/envoy.service.discovery.v3.AggregatedDiscoveryService/")? {
        "StreamAggregatedResources" => Some(Variant::Sotw),
        "DeltaAggregatedResources" => Some(Variant::Delta),
        _ => None,
    }
}

impl NamedService for Ads {
    const NAME: &'static str = "envoy.service.discovery.v3.AggregatedDiscoveryService";
}

type Answer = Pin<Box<dyn Future<Output = Result<http::Response<Body>, Infallible>> + Send>>;

impl tonic::codegen::Service<http::Request<Body>> for Ads {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = Answer;

    fn poll_ready(&mut self, _: &mut TaskContext<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Answer {
        let port = self.0.clone();
        Box::pin(async move {
            let opened = match variant(request.uri().path()) {
                Some(variant) => port.open(variant, request).await,
                None => Err(Status::unimplemented("")),
            };
            Ok(match opened {
                Ok(body) => {
                    let mut response = http::Response::new(body);
                    let grpc = HeaderValue::from_static("application/grpc");
                    response.headers_mut().insert(CONTENT_TYPE, grpc);
                    response
                }
                Err(status) => status.into_http(),
            })
        })
    }
}
