//! A delta stream.

use anyhow::Context as _;
use http::uri::PathAndQuery;
use istio_api::envoy::service::discovery::v3::{DeltaDiscoveryRequest, DeltaDiscoveryResponse};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{client::Grpc, transport::Channel};

use super::{Received, Session, Sidecar, kind_of};
use crate::push::{
    kind::Kind,
    raw::{Sized, SizedCodec},
};

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources";

impl Sidecar {
    pub(super) async fn delta(
        &mut self,
        channel: Channel,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let (requests, outgoing) = mpsc::channel::<DeltaDiscoveryRequest>(64);
        let mut session = Session::default();
        let mut listening = false;
        for request in std::mem::take(&mut self.prepared) {
            let kind = kind_of(&request.type_url)?;
            if kind.is_named() {
                let held = self.held.of(kind).keys().cloned();
                session.asked.insert(kind, held.collect());
            }
            listening |= kind == Kind::Listener;
            requests.send(request).await?;
        }
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await.context("connecting")?;
        let codec = SizedCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let stream = grpc
            .streaming(
                tonic::Request::new(ReceiverStream::new(outgoing)),
                PathAndQuery::from_static(METHOD),
                codec,
            )
            .await
            .context("opening the stream")?;
        let mut stream = stream.into_inner();
        loop {
            let received = tokio::select! {
                _ = stop.changed() => return Ok(()),
                changed = self.expectation.changed() => {
                    changed?;
                    None
                }
                received = stream.message() => {
                    Some(received?.context("the server ended the stream")?)
                }
            };
            let Some(Sized { bytes, message }) = received else {
                self.consider().await?;
                continue;
            };
            let kind = kind_of(&message.type_url)?;
            let resources = message
                .resources
                .into_iter()
                .map(|resource| Received {
                    name: resource.name,
                    version: resource.version,
                    body: resource.resource.map(|any| any.value).unwrap_or_default(),
                })
                .collect();
            let taken = self.take(kind, bytes, resources, message.removed_resources)?;
            // New subscriptions go out before the acknowledgement, as Envoy sends them.
            if let Some((next, names)) = session.follow(kind, &taken, &mut self.held) {
                let text = |names: Vec<std::sync::Arc<str>>| {
                    names.iter().map(ToString::to_string).collect()
                };
                let request = DeltaDiscoveryRequest {
                    type_url: next.type_url().to_owned(),
                    resource_names_subscribe: text(names.subscribe),
                    resource_names_unsubscribe: text(names.unsubscribe),
                    ..DeltaDiscoveryRequest::default()
                };
                requests.send(request).await?;
            }
            requests
                .send(DeltaDiscoveryRequest {
                    type_url: kind.type_url().to_owned(),
                    response_nonce: message.nonce,
                    ..DeltaDiscoveryRequest::default()
                })
                .await?;
            if kind == Kind::Endpoint && !std::mem::replace(&mut listening, true) {
                requests.send(self.subscription(Kind::Listener)).await?;
            }
            session.answered.insert(kind);
            if session.is_up() {
                self.check().await?;
            }
        }
    }

    /// Makes the requests of the next stream beforehand: a proxy would spend its own time on it,
    /// not the server's.
    pub fn prepare(&mut self) {
        // One that comes back asks for every type at once, a new one follows what it learns.
        let first: &[Kind] = if self.held.is_empty() {
            &[Kind::Cluster]
        } else {
            &Kind::ALL
        };
        self.prepared = first.iter().map(|kind| self.subscription(*kind)).collect();
        let node = self.node();
        if let Some(first) = self.prepared.first_mut() {
            first.node = Some(node);
        }
    }

    fn subscription(&self, kind: Kind) -> DeltaDiscoveryRequest {
        let mut names = Vec::new();
        if kind.is_named() {
            // In the order of a hash map, as Envoy sends them.
            names.extend(self.held.of(kind).keys().map(ToString::to_string));
        }
        DeltaDiscoveryRequest {
            type_url: kind.type_url().to_owned(),
            resource_names_subscribe: names,
            initial_resource_versions: self.versions(kind),
            ..DeltaDiscoveryRequest::default()
        }
    }
}
