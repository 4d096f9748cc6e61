//! A source under load: a thousand sinks at once. In a process of its own, as it measures memory.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use istio_api::mcp::v1alpha1::{Metadata, RequestResources, Resource, Resources};
use mesh_common::drain;
use mesh_common::grpc::mcp::resource_source_client::ResourceSourceClient;
use mesh_common::mcp::source::{Authorize, Connections, Metrics, Options, Server};
use mesh_common::metrics::Registry;
use mesh_core::mcp::{Collection, Snapshot};
use prost_types::Any;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::transport::{Channel, Endpoint};
use tonic::{Code, Status, Streaming};

mesh_common::allocator!();

const SINKS: usize = 1000;
/// Streams share connections, so that the test needs few files.
const CONNECTIONS: usize = 20;
const RESOURCES: usize = 20;
const RESOURCE_BYTES: usize = 10 << 10;
const COLLECTION: &str = "istio/networking/v1alpha3/sidecars";
/// Memory of a stream and its sink, which are both in this process: an unread response, in a buffer
/// that may have grown by doubling, and the rest.
const BYTES_PER_STREAM: usize = 2 * RESOURCES * RESOURCE_BYTES + (200 << 10);
/// Maximum time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(60);

struct Everybody;

impl Authorize for Everybody {
    fn authorize(&self, _: Option<&[String]>) -> Result<String, String> {
        Ok(String::new())
    }
}

/// More than the flow-control window of a stream: what is not read stays at the source.
fn snapshot(version: usize) -> Arc<Snapshot> {
    let resource = |i: usize| {
        let name: Arc<str> = format!("shop/s{i:03}").into();
        let metadata = Metadata {
            name: name.to_string(),
            version: version.to_string(),
            ..Metadata::default()
        };
        let body = Any {
            type_url: "type.googleapis.com/istio.networking.v1alpha3.Sidecar".to_owned(),
            value: vec![0; RESOURCE_BYTES],
        };
        let resource = Resource {
            metadata: Some(metadata),
            body: Some(body),
        };
        (name, Arc::new(resource))
    };
    let mut snapshot = Snapshot::default();
    let collection = Collection {
        version: version.to_string().into(),
        resources: (0..RESOURCES).map(resource).collect(),
    };
    snapshot.insert(COLLECTION, collection);
    Arc::new(snapshot)
}

struct Source {
    address: SocketAddr,
    snapshots: watch::Sender<Option<Arc<Snapshot>>>,
    connections: Connections,
    registry: Registry,
    trigger: drain::Trigger,
}

impl Source {
    async fn start(options: Options) -> Self {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (snapshots, snapshots_rx) = watch::channel(Some(snapshot(1)));
        let registry = Registry::empty();
        let metrics = Metrics::register(&registry, "galley", [COLLECTION.to_owned()]);
        let (trigger, drain) = drain::channel();
        let server = Server::new(
            snapshots_rx,
            Arc::new(Everybody),
            options,
            metrics,
            drain.clone(),
        );
        let connections = server.connections();
        let router = tonic::transport::Server::builder()
            .max_concurrent_streams(1024)
            .add_routes(server.routes());
        tokio::spawn(async move {
            let end = drain.signaled();
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, end).await
        });
        Self {
            address,
            snapshots,
            connections,
            registry,
            trigger,
        }
    }

    fn channels(&self) -> Vec<Channel> {
        let endpoint = Endpoint::from_shared(format!("http://{}", self.address)).unwrap();
        (0..CONNECTIONS).map(|_| endpoint.connect_lazy()).collect()
    }

    fn has(&self, line: &str) -> bool {
        self.registry.text().lines().any(|found| found == line)
    }

    async fn until(&self, what: &str, test: impl Fn() -> bool) {
        let wait = async {
            while !test() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        let waited = tokio::time::timeout(PATIENCE, wait).await;
        assert!(waited.is_ok(), "{what}: {} streams", self.connections.len());
    }
}

type Stream = (mpsc::Sender<RequestResources>, Streaming<Resources>);

fn subscribe() -> RequestResources {
    RequestResources {
        collection: COLLECTION.to_owned(),
        ..RequestResources::default()
    }
}

async fn open(channel: Channel) -> Result<Stream, Status> {
    let (tx, rx) = mpsc::channel(2);
    tx.send(subscribe()).await.unwrap();
    let mut client = ResourceSourceClient::new(channel);
    let opened = client.establish_resource_stream(ReceiverStream::new(rx));
    let response = tokio::time::timeout(PATIENCE, opened).await.unwrap()?;
    Ok((tx, response.into_inner()))
}

async fn receive(stream: &mut Stream) -> Resources {
    let message = tokio::time::timeout(PATIENCE, stream.1.message()).await;
    message.unwrap().unwrap().unwrap()
}

/// Opens all streams at once; returns the admitted ones and the rejections.
async fn wave(source: &Source) -> (Vec<Stream>, Vec<Status>) {
    let channels = source.channels();
    let attempts = (0..SINKS).map(|i| open(channels[i % CONNECTIONS].clone()));
    let outcomes: Vec<_> = futures::stream::iter(attempts)
        .buffer_unordered(SINKS)
        .collect()
        .await;
    let (mut open, mut refused) = (Vec::new(), Vec::new());
    for outcome in outcomes {
        match outcome {
            Ok(stream) => open.push(stream),
            Err(status) => refused.push(status),
        }
    }
    (open, refused)
}

/// Resident memory of this process in bytes.
fn resident() -> usize {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.unwrap().trim().trim_end_matches(" kB");
    kib.parse::<usize>().unwrap() * 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn a_thousand_sinks_at_once() {
    // One token per hour: none is added while the test runs.
    let scarce = Options {
        connect_interval: Duration::from_secs(3600),
        connect_burst: 10,
        ..Options::default()
    };
    let source = Source::start(scarce).await;
    let (mut admitted, refused) = wave(&source).await;
    assert_eq!((admitted.len(), refused.len()), (10, SINKS - 10));
    for status in &refused {
        assert_eq!(status.code(), Code::ResourceExhausted);
        assert_eq!(status.message(), "too many new streams: try again later");
    }
    for stream in &mut admitted {
        assert_eq!(receive(stream).await.resources.len(), RESOURCES);
    }
    assert!(source.has("galley_mcp_source_refused_total{reason=\"rate\"} 990"));
    assert!(source.has("galley_mcp_source_clients_total 10"));
    drop(admitted);
    source
        .until("all left", || source.connections.is_empty())
        .await;
    assert!(source.has("galley_mcp_source_clients_total 0"));
    assert!(source.trigger.drain(PATIENCE).await);

    // More than may be open at the same time.
    let few = Options {
        connect_interval: Duration::ZERO,
        max_streams: 7,
        ..Options::default()
    };
    let source = Source::start(few).await;
    let channel = source.channels().remove(0);
    let mut held = Vec::new();
    for _ in 0..7 {
        held.push(open(channel.clone()).await.unwrap());
    }
    let refused = open(channel.clone()).await.unwrap_err();
    assert_eq!(refused.message(), "too many open streams: try again later");
    assert!(source.has("galley_mcp_source_refused_total{reason=\"streams\"} 1"));
    drop(held.pop());
    source
        .until("one left", || source.connections.len() == 6)
        .await;
    assert!(open(channel).await.is_ok());
    assert!(source.trigger.drain(PATIENCE).await);

    // All are admitted, and none answers or reads: the memory of a stream is bounded.
    let unlimited = Options {
        connect_interval: Duration::ZERO,
        ..Options::default()
    };
    let source = Source::start(unlimited).await;
    let mut honest = open(source.channels().remove(0)).await.unwrap();
    assert_eq!(receive(&mut honest).await.system_version_info, "1");
    let before = resident();
    for round in 0..3 {
        let (silent, refused) = wave(&source).await;
        assert_eq!((silent.len(), refused.len()), (SINKS, 0));
        for change in 0..20 {
            source
                .snapshots
                .send_replace(Some(snapshot(2 + 20 * round + change)));
        }
        // Others are served meanwhile.
        let ack = RequestResources {
            response_nonce: (round + 1).to_string(),
            ..subscribe()
        };
        honest.0.send(ack).await.unwrap();
        let wanted = (21 + 20 * round).to_string();
        assert_eq!(receive(&mut honest).await.system_version_info, wanted);
        // Memory left by an earlier round would be counted again.
        let grown = resident().saturating_sub(before);
        eprintln!("round {round}: {} bytes a stream", grown / SINKS);
        assert!(
            grown / SINKS < BYTES_PER_STREAM,
            "{grown} bytes for {SINKS} streams"
        );
        drop(silent);
        source
            .until("the silent left", || source.connections.len() == 1)
            .await;
    }
    assert!(source.has("galley_mcp_source_clients_total 1"));
    drop(honest);
    assert!(source.trigger.drain(PATIENCE).await);
}
