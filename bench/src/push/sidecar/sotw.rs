//! A state-of-the-world stream.

use std::collections::BTreeMap;

use anyhow::Context as _;
use http::uri::PathAndQuery;
use istio_api::envoy::service::discovery::v3::{DiscoveryRequest, DiscoveryResponse};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{client::Grpc, transport::Channel};

use super::{Received, Session, Sidecar, kind_of};
use crate::push::{
    kind::Kind,
    raw::{Sized, SizedCodec},
};

const METHOD: &str =
    "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources";

/// The last response of one type.
#[derive(Clone, Debug, Default)]
struct Last {
    version: String,
    nonce: String,
}

impl Sidecar {
    pub(super) async fn sotw(
        &mut self,
        channel: Channel,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let (requests, outgoing) = mpsc::channel::<DiscoveryRequest>(64);
        let mut session = Session::default();
        let mut last: BTreeMap<Kind, Last> = BTreeMap::new();
        let mut first = request(Kind::Cluster, &session, &last);
        first.node = Some(self.node());
        requests.send(first).await?;
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await.context("connecting")?;
        let codec = SizedCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        let stream = grpc
            .streaming(
                tonic::Request::new(ReceiverStream::new(outgoing)),
                PathAndQuery::from_static(METHOD),
                codec,
            )
            .await
            .context("opening the stream")?;
        let mut stream = stream.into_inner();
        let mut listening = false;
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
                .map(|any| Received {
                    name: String::new(),
                    version: String::new(),
                    body: any.value,
                })
                .collect();
            let taken = self.take(kind, bytes, resources, Vec::new())?;
            last.insert(
                kind,
                Last {
                    version: message.version_info,
                    nonce: message.nonce,
                },
            );
            // A changed list of names is sent before the acknowledgement, as Envoy does.
            if let Some((next, _)) = session.follow(kind, &taken, &mut self.held) {
                requests.send(request(next, &session, &last)).await?;
            }
            requests.send(request(kind, &session, &last)).await?;
            if kind == Kind::Endpoint && !std::mem::replace(&mut listening, true) {
                requests
                    .send(request(Kind::Listener, &session, &last))
                    .await?;
            }
            session.answered.insert(kind);
            if session.is_up() {
                self.check().await?;
            }
        }
    }
}

/// The complete wish for one type, in answer to its last response.
fn request(kind: Kind, session: &Session, last: &BTreeMap<Kind, Last>) -> DiscoveryRequest {
    let names = session.asked.get(&kind).into_iter().flatten();
    let last = last.get(&kind).cloned().unwrap_or_default();
    DiscoveryRequest {
        type_url: kind.type_url().to_owned(),
        resource_names: names.map(ToString::to_string).collect(),
        version_info: last.version,
        response_nonce: last.nonce,
        ..DiscoveryRequest::default()
    }
}
