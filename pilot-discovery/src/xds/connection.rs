//! One stream: reads requests, follows the view of its proxy and sends responses.

use pilot_xds::request::{MAX_NAMES, Request};
use pilot_xds::stream::{Event, Response, Stream, Variant};
use pilot_xds::view::Times;
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use futures::StreamExt as _;
use istio_api::envoy::config::core::v3::Node;
use mesh_common::drain;
use pilot_model::proxy::Proxy;
use tokio::{sync::mpsc, time::timeout};
use tonic::{Code, Status};

use super::{
    auth::{Peer, account, authorize},
    codec::Framed,
    registry::{self, Registry},
};
use crate::{metrics::Metrics, world};

/// A proxy that reads nothing for this long is disconnected.
const SEND_TIMEOUT: Duration = Duration::from_secs(60);
/// A peer that opens a stream must send a request within this time.
const FIRST_REQUEST_TIMEOUT: Duration = Duration::from_secs(10);

/// What connections share.
#[derive(Clone, Debug)]
pub struct Context {
    pub world: world::Handle,
    pub registry: Registry,
    pub metrics: Metrics,
    pub drain: drain::Watch,
    /// Whether to check the identity of peers (`PILOT_ENABLE_XDS_IDENTITY_CHECK`).
    pub identity_check: bool,
}

/// The requests of a stream, with the node in them.
pub trait Incoming: futures::Stream<Item = Result<(Option<Node>, Request), Status>> {}
impl<T: futures::Stream<Item = Result<(Option<Node>, Request), Status>>> Incoming for T {}

/// The channel for responses; its capacity is one.
pub type Outgoing = mpsc::Sender<Result<Framed, Status>>;

/// Serves a stream to its end. An error is sent to the peer as the status.
pub async fn serve(
    context: Context,
    variant: Variant,
    peer: Peer,
    address: String,
    requests: impl Incoming,
    out: Outgoing,
) {
    let metrics = context.metrics.clone();
    match run(context, variant, peer, &address, requests, &out).await {
        Ok(()) => {}
        Err(status) => {
            metrics.stream_ended(&status);
            tracing::info!(
                address,
                code = ?status.code(),
                error = status.message(),
                "ended a discovery stream"
            );
            // The peer may have disconnected already.
            let _gone = timeout(Duration::from_secs(1), out.send(Err(status))).await;
        }
    }
}

async fn run(
    context: Context,
    variant: Variant,
    peer: Peer,
    address: &str,
    requests: impl Incoming,
    out: &Outgoing,
) -> Result<(), Status> {
    let mut requests = std::pin::pin!(requests);
    let first = timeout(FIRST_REQUEST_TIMEOUT, requests.next())
        .await
        .map_err(|_| Status::invalid_argument("no discovery request within 10 s"))?;
    let Some(first) = first else {
        return Ok(());
    };
    let (node, request) = first?;
    let mut proxy =
        Proxy::parse(node.as_ref()).map_err(|error| Status::invalid_argument(error.to_string()))?;
    if context.identity_check {
        authorize(&peer, &proxy).map_err(|denied| match denied {
            super::auth::Denied::Unauthenticated => Status::unauthenticated(denied.to_string()),
            super::auth::Denied::Foreign { .. } => Status::permission_denied(denied.to_string()),
        })?;
    }
    proxy.verified = account(&peer, &proxy, &context.world.published().snapshot.mesh);
    let unavailable = |error: anyhow::Error| Status::unavailable(error.to_string());
    let mut connection = context
        .world
        .connect(proxy.clone())
        .await
        .map_err(unavailable)?;
    let proxy = Arc::new(proxy);
    let id = format!("{}-{}", proxy.id, connection.id);
    tracing::info!(
        conn = id,
        address,
        ?variant,
        version = &*proxy.version,
        "proxy connected"
    );
    let entry = context.registry.enter(
        connection.id,
        registry::Status {
            connection: id.clone(),
            address: address.to_owned(),
            connected: std::time::SystemTime::now(),
            variant,
            proxy: proxy.clone(),
            types: Default::default(),
            taken: Default::default(),
        },
    );
    let _connected = context.metrics.connected(&proxy.version);
    let view = connection.view.borrow_and_update().clone();
    let mut stream = Stream::new(variant, view);
    let mut session = Session {
        context: &context,
        id: &id,
        out,
        variant,
        behind: None,
    };
    session.request(&mut stream, request).await?;
    entry.update(&stream);
    loop {
        tokio::select! {
            biased;
            () = context.drain.signaled() => {
                return Err(Status::unavailable("shutting down, connect to another replica"));
            }
            request = requests.next() => match request {
                None => break,
                Some(request) => match request {
                    Ok((_, request)) => session.request(&mut stream, request).await?,
                    // The peer disconnected in the middle of a message.
                    Err(status) if is_hangup(&status) => break,
                    Err(status) => return Err(status),
                },
            },
            changed = connection.view.changed() => {
                if changed.is_err() {
                    return Err(Status::unavailable("the writer ended"));
                }
                let view = connection.view.borrow_and_update().clone();
                session.taken(view.times);
                let responses = stream.on_view(view);
                session.send(responses).await?;
            }
        }
        session.converged(&stream);
        entry.update(&stream);
    }
    tracing::info!(conn = id, "proxy disconnected");
    Ok(())
}

/// Whether the peer's end of a stream was cut off rather than closed.
fn is_hangup(status: &Status) -> bool {
    matches!(status.code(), Code::Cancelled | Code::Unavailable)
        || (status.code() == Code::Unknown && std::error::Error::source(status).is_some())
}

struct Session<'a> {
    context: &'a Context,
    id: &'a str,
    out: &'a Outgoing,
    variant: Variant,
    /// When the oldest change arrived that was not sent yet.
    behind: Option<Instant>,
}

impl Session<'_> {
    /// Receives a new view.
    fn taken(&mut self, times: Option<Times>) {
        let Some(times) = times else { return };
        let waited = times.published.elapsed();
        self.context.metrics.queue.observe(waited.as_secs_f64());
        self.behind.get_or_insert(times.changed);
    }

    /// Observes how long changes took once the last response for them is sent.
    fn converged(&mut self, stream: &Stream) {
        if stream.lags() {
            return;
        }
        if let Some(changed) = self.behind.take() {
            let took = changed.elapsed().as_secs_f64();
            self.context.metrics.convergence.observe(took);
        }
    }

    async fn request(&mut self, stream: &mut Stream, request: Request) -> Result<(), Status> {
        if request.names() > MAX_NAMES {
            return Err(Status::invalid_argument(format!(
                "a request has {} resource names: want at most {MAX_NAMES}",
                request.names()
            )));
        }
        let (event, responses) = stream.on_request(request);
        let metrics = &self.context.metrics;
        match event {
            Event::Nack(kind, error) => {
                metrics.rejects.with_label_values(&[kind.short()]).inc();
                tracing::warn!(
                    conn = self.id,
                    type_url = kind.short(),
                    error,
                    "proxy rejected a response"
                );
            }
            Event::Stale(kind) => {
                metrics
                    .expired_nonce
                    .with_label_values(&[kind.short()])
                    .inc();
            }
            Event::Unknown(type_url) => {
                tracing::warn!(conn = self.id, type_url, "resource type is not supported");
            }
            Event::Subscribed(_) | Event::Ack(_) | Event::Unsubscribed(_) => {}
        }
        self.send(responses).await
    }

    async fn send(&mut self, responses: Vec<Response>) -> Result<(), Status> {
        for response in responses {
            let framed = Framed::new(self.variant, response);
            let size = framed.encoded_len();
            let metrics = &self.context.metrics;
            metrics.sent(framed.variant, &framed.response, size);
            let sent = timeout(SEND_TIMEOUT, self.out.send(Ok(framed))).await;
            match sent {
                Ok(Ok(())) => {}
                Ok(Err(_closed)) => return Ok(()),
                Err(_elapsed) => {
                    self.context.metrics.write_timeout.inc();
                    return Err(Status::deadline_exceeded("the proxy did not read for 60 s"));
                }
            }
        }
        Ok(())
    }
}
