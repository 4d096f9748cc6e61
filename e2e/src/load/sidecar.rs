//! A simulated sidecar: subscribes as Envoy does, acknowledges everything, notices what it waits
//! for.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use anyhow::Context as _;
use http::uri::PathAndQuery;
use istio_api::envoy::{
    config::core::v3::Node,
    service::discovery::v3::{
        DeltaDiscoveryRequest, DeltaDiscoveryResponse, DiscoveryRequest, DiscoveryResponse,
    },
};
use prost_types::{Struct, Value, value::Kind as ValueKind};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{client::Grpc, transport::Channel};

use super::{
    fixture::PORT,
    raw::{Sized, SizedCodec},
};

pub const CLUSTER: &str = "type.googleapis.com/envoy.config.cluster.v3.Cluster";
pub const ENDPOINT: &str = "type.googleapis.com/envoy.config.endpoint.v3.ClusterLoadAssignment";
pub const LISTENER: &str = "type.googleapis.com/envoy.config.listener.v3.Listener";
pub const ROUTE: &str = "type.googleapis.com/envoy.config.route.v3.RouteConfiguration";
const TYPES: [&str; 4] = [CLUSTER, ENDPOINT, LISTENER, ROUTE];

/// Protocol variant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Mode {
    Delta,
    Sotw,
}

/// What all sidecars wait for: a resource of `type_url` whose bytes contain `marker`.
#[derive(Clone, Debug, Default)]
pub struct Expectation {
    pub round: u64,
    pub type_url: &'static str,
    pub marker: String,
}

/// Counts of all sidecars together.
#[derive(Debug, Default)]
pub struct Counters {
    /// Bytes of responses.
    pub bytes: AtomicU64,
    /// Bytes of the resources in them.
    pub resource_bytes: AtomicU64,
    pub responses: AtomicU64,
}

/// What a sidecar tells.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Report {
    /// Every type was answered once on this stream.
    Synced,
    /// The expectation of a round was met.
    Seen(u64),
}

/// A sidecar.
#[derive(Debug)]
pub struct Sidecar {
    pub index: usize,
    pub namespace: String,
    pub mode: Mode,
    pub counters: Arc<Counters>,
    pub expectation: watch::Receiver<Expectation>,
    pub reports: mpsc::Sender<Report>,
    /// Versions held, by type; kept over reconnects.
    pub held: BTreeMap<&'static str, BTreeMap<String, String>>,
}

/// A resource of a response, whichever variant.
struct Received {
    name: String,
    version: String,
    body: Vec<u8>,
}

impl Sidecar {
    fn node(&self) -> Node {
        let text = |text: String| Value {
            kind: Some(ValueKind::StringValue(text)),
        };
        let fields = [
            ("NAMESPACE".to_owned(), text(self.namespace.clone())),
            ("ISTIO_VERSION".to_owned(), text("1.30.0".to_owned())),
            ("CLUSTER_ID".to_owned(), text("Kubernetes".to_owned())),
        ];
        let (high, low) = (self.index / 250, self.index % 250);
        Node {
            id: format!(
                "sidecar~172.16.{high}.{low}~load-{}.{ns}~{ns}.svc.cluster.local",
                self.index,
                ns = self.namespace
            ),
            metadata: Some(Struct {
                fields: fields.into_iter().collect(),
            }),
            ..Node::default()
        }
    }

    /// Runs one stream until `stop` turns true.
    ///
    /// # Errors
    /// When the stream fails.
    pub async fn run(
        &mut self,
        channel: Channel,
        stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        match self.mode {
            Mode::Delta => self.delta(channel, stop).await,
            Mode::Sotw => self.sotw(channel, stop).await,
        }
    }

    async fn delta(
        &mut self,
        channel: Channel,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let (requests, outgoing) = mpsc::channel::<DeltaDiscoveryRequest>(64);
        let reconnect = !self.held.is_empty();
        let first: &[&'static str] = if reconnect { &TYPES } else { &[CLUSTER] };
        let mut subscribed: BTreeSet<&'static str> = BTreeSet::new();
        for type_url in first {
            let request = self.subscription(type_url, subscribed.is_empty());
            subscribed.insert(type_url);
            requests.send(request).await?;
        }
        let path = PathAndQuery::from_static(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/DeltaAggregatedResources",
        );
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await.context("connecting")?;
        let codec = SizedCodec::<DeltaDiscoveryRequest, DeltaDiscoveryResponse>::default();
        let stream = grpc
            .streaming(
                tonic::Request::new(ReceiverStream::new(outgoing)),
                path,
                codec,
            )
            .await
            .context("opening the stream")?;
        let mut stream = stream.into_inner();
        let mut answered: BTreeSet<&'static str> = BTreeSet::new();
        loop {
            let received = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                received = stream.message() => received?,
            };
            let Some(Sized { bytes, message }) = received else {
                anyhow::bail!("the server ended the stream");
            };
            let Some(type_url) = TYPES.into_iter().find(|known| *known == message.type_url) else {
                anyhow::bail!("unexpected type {}", message.type_url);
            };
            let removed = message.removed_resources;
            let resources = message
                .resources
                .into_iter()
                .map(|resource| Received {
                    name: resource.name,
                    version: resource.version,
                    body: resource.resource.map(|any| any.value).unwrap_or_default(),
                })
                .collect();
            let added = self.take(type_url, bytes, resources, &removed).await?;
            // New subscriptions go out before the acknowledgement, as Envoy sends them.
            if type_url == CLUSTER {
                let eds: Vec<String> = added
                    .iter()
                    .filter(|name| name.starts_with("outbound|"))
                    .cloned()
                    .collect();
                if !eds.is_empty() {
                    let first = subscribed.insert(ENDPOINT);
                    requests.send(request_names(ENDPOINT, eds, first)).await?;
                }
            }
            if type_url == LISTENER {
                let routes: Vec<String> = added.iter().filter_map(|name| route(name)).collect();
                if !routes.is_empty() {
                    let first = subscribed.insert(ROUTE);
                    requests.send(request_names(ROUTE, routes, first)).await?;
                }
            }
            requests
                .send(DeltaDiscoveryRequest {
                    type_url: type_url.to_owned(),
                    response_nonce: message.nonce,
                    ..DeltaDiscoveryRequest::default()
                })
                .await?;
            if type_url == ENDPOINT && subscribed.insert(LISTENER) {
                requests
                    .send(request_names(LISTENER, Vec::new(), true))
                    .await?;
            }
            answered.insert(type_url);
            if answered.len() == TYPES.len() && answered.insert("") {
                self.reports.send(Report::Synced).await?;
            }
        }
    }

    fn subscription(&self, type_url: &'static str, node: bool) -> DeltaDiscoveryRequest {
        let held = self.held.get(type_url).cloned().unwrap_or_default();
        let named = type_url == ENDPOINT || type_url == ROUTE;
        DeltaDiscoveryRequest {
            node: node.then(|| self.node()),
            type_url: type_url.to_owned(),
            resource_names_subscribe: if named {
                held.keys().cloned().collect()
            } else {
                Vec::new()
            },
            initial_resource_versions: held,
            ..DeltaDiscoveryRequest::default()
        }
    }

    async fn sotw(
        &mut self,
        channel: Channel,
        mut stop: watch::Receiver<bool>,
    ) -> anyhow::Result<()> {
        let (requests, outgoing) = mpsc::channel::<DiscoveryRequest>(64);
        requests
            .send(DiscoveryRequest {
                node: Some(self.node()),
                type_url: CLUSTER.to_owned(),
                ..DiscoveryRequest::default()
            })
            .await?;
        let path = PathAndQuery::from_static(
            "/envoy.service.discovery.v3.AggregatedDiscoveryService/StreamAggregatedResources",
        );
        let mut grpc = Grpc::new(channel).max_decoding_message_size(usize::MAX);
        grpc.ready().await.context("connecting")?;
        let codec = SizedCodec::<DiscoveryRequest, DiscoveryResponse>::default();
        let stream = grpc
            .streaming(
                tonic::Request::new(ReceiverStream::new(outgoing)),
                path,
                codec,
            )
            .await
            .context("opening the stream")?;
        let mut stream = stream.into_inner();
        let mut names: BTreeMap<&'static str, Vec<String>> = BTreeMap::new();
        let mut answered: BTreeSet<&'static str> = BTreeSet::new();
        let mut listening = false;
        loop {
            let received = tokio::select! {
                _ = stop.wait_for(|stop| *stop) => return Ok(()),
                received = stream.message() => received?,
            };
            let Some(Sized { bytes, message }) = received else {
                anyhow::bail!("the server ended the stream");
            };
            let Some(type_url) = TYPES.into_iter().find(|known| *known == message.type_url) else {
                anyhow::bail!("unexpected type {}", message.type_url);
            };
            let resources: Vec<Received> = message
                .resources
                .into_iter()
                .map(|any| Received {
                    name: name_of(&any.value),
                    version: String::new(),
                    body: any.value,
                })
                .collect();
            let all: Vec<String> = resources
                .iter()
                .map(|resource| resource.name.clone())
                .collect();
            self.take(type_url, bytes, resources, &[]).await?;
            let follow: Option<(&'static str, Vec<String>)> = match type_url {
                CLUSTER => Some((
                    ENDPOINT,
                    all.into_iter()
                        .filter(|name| name.starts_with("outbound|"))
                        .collect(),
                )),
                LISTENER => Some((ROUTE, all.iter().filter_map(|name| route(name)).collect())),
                _ => None,
            };
            if let Some((next, wanted)) = follow
                && !wanted.is_empty()
                && names.get(next) != Some(&wanted)
            {
                names.insert(next, wanted.clone());
                // The first subscription of a type has no nonce; later ones are sent with the
                // acknowledgement of that type and are left out here: the server pushes them.
                if !answered.contains(next) {
                    requests
                        .send(DiscoveryRequest {
                            type_url: next.to_owned(),
                            resource_names: wanted,
                            ..DiscoveryRequest::default()
                        })
                        .await?;
                }
            }
            requests
                .send(DiscoveryRequest {
                    type_url: type_url.to_owned(),
                    version_info: message.version_info,
                    response_nonce: message.nonce,
                    resource_names: names.get(type_url).cloned().unwrap_or_default(),
                    ..DiscoveryRequest::default()
                })
                .await?;
            if type_url == ENDPOINT && !std::mem::replace(&mut listening, true) {
                requests
                    .send(DiscoveryRequest {
                        type_url: LISTENER.to_owned(),
                        ..DiscoveryRequest::default()
                    })
                    .await?;
            }
            answered.insert(type_url);
            if answered.len() == TYPES.len() && answered.insert("") {
                self.reports.send(Report::Synced).await?;
            }
        }
    }

    /// Takes over resources; gives the names that are new.
    async fn take(
        &mut self,
        type_url: &'static str,
        bytes: usize,
        resources: Vec<Received>,
        removed: &[String],
    ) -> anyhow::Result<Vec<String>> {
        let counters = &self.counters;
        counters.bytes.fetch_add(bytes as u64, Ordering::Relaxed);
        counters.responses.fetch_add(1, Ordering::Relaxed);
        let body: usize = resources.iter().map(|resource| resource.body.len()).sum();
        counters
            .resource_bytes
            .fetch_add(body as u64, Ordering::Relaxed);
        let expectation = self.expectation.borrow().clone();
        let seen = expectation.type_url == type_url
            && resources
                .iter()
                .any(|resource| contains(&resource.body, &expectation.marker));
        let held = self.held.entry(type_url).or_default();
        let mut added = Vec::new();
        for resource in resources {
            if held
                .insert(resource.name.clone(), resource.version)
                .is_none()
            {
                added.push(resource.name);
            }
        }
        for name in removed {
            held.remove(name);
        }
        if seen {
            self.reports.send(Report::Seen(expectation.round)).await?;
        }
        Ok(added)
    }
}

fn request_names(
    type_url: &'static str,
    names: Vec<String>,
    _first: bool,
) -> DeltaDiscoveryRequest {
    DeltaDiscoveryRequest {
        type_url: type_url.to_owned(),
        resource_names_subscribe: names,
        ..DeltaDiscoveryRequest::default()
    }
}

/// The route configuration of a wildcard HTTP listener.
fn route(listener: &str) -> Option<String> {
    let port: u32 = listener.strip_prefix("0.0.0.0_")?.parse().ok()?;
    (port == PORT).then(|| port.to_string())
}

/// The name of a resource: field 1 of clusters, listeners, assignments and route configurations.
fn name_of(body: &[u8]) -> String {
    #[derive(Clone, PartialEq, prost::Message)]
    struct Named {
        #[prost(string, tag = "1")]
        name: String,
    }
    // Other fields are skipped; a body that is no message has no name.
    prost::Message::decode(body)
        .map(|named: Named| named.name)
        .unwrap_or_default()
}

fn contains(haystack: &[u8], needle: &str) -> bool {
    !needle.is_empty()
        && haystack
            .windows(needle.len())
            .any(|window| window == needle.as_bytes())
}
