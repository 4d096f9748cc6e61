//! A sink that galley calls (`--sinkAddress`).

use std::net::SocketAddr;

use istio_api::google::rpc;
use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use mesh_common::drain;
use mesh_common::grpc::mcp::resource_sink_server::{ResourceSink, ResourceSinkServer};
use mesh_common::tls::{self, ClientAuth, PeerInfo, ReloadingServerConfig, ServerOptions};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Response, Status, Streaming};

use crate::harness::{PATIENCE, World, sidecar};
use crate::transport::{SIDECARS, subscribe};

/// A call by galley.
struct Call {
    metadata: MetadataMap,
    identities: Option<Vec<String>>,
    messages: Streaming<Resources>,
    requests: mpsc::Sender<Result<RequestResources, Status>>,
}

impl Call {
    async fn receive(&mut self) -> Resources {
        let message = tokio::time::timeout(PATIENCE, self.messages.message()).await;
        message.unwrap().unwrap().unwrap()
    }

    async fn send(&self, request: RequestResources) {
        self.requests.send(Ok(request)).await.unwrap();
    }

    /// Receives the message that opens the stream, which has no collection.
    async fn trigger(&mut self) {
        assert_eq!(self.receive().await, Resources::default());
    }
}

/// The answer of a sink to the message that opens a stream.
fn answer_to_trigger(code: Option<Code>) -> RequestResources {
    RequestResources {
        error_detail: code.map(|code| rpc::Status {
            code: code.into(),
            message: "unsupported collection ".to_owned(),
            details: Vec::new(),
        }),
        ..RequestResources::default()
    }
}

/// Passes every call to the test.
struct Remote {
    calls: mpsc::Sender<Call>,
}

#[tonic::async_trait]
impl ResourceSink for Remote {
    type EstablishResourceStreamStream = ReceiverStream<Result<RequestResources, Status>>;

    async fn establish_resource_stream(
        &self,
        request: Request<Streaming<Resources>>,
    ) -> Result<Response<Self::EstablishResourceStreamStream>, Status> {
        let (requests, rx) = mpsc::channel(8);
        let peer = request.extensions().get::<PeerInfo>();
        let call = Call {
            metadata: request.metadata().clone(),
            identities: peer.map(PeerInfo::identities),
            requests,
            messages: request.into_inner(),
        };
        self.calls.send(call).await.unwrap();
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

/// A server with sinks for galley to call.
struct Sinks {
    address: SocketAddr,
    calls: mpsc::Receiver<Call>,
    _trigger: drain::Trigger,
}

impl Sinks {
    async fn start(tls: Option<ReloadingServerConfig>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let (calls, calls_rx) = mpsc::channel(8);
        let (trigger, drain) = drain::channel();
        let router = tonic::transport::Server::builder()
            .add_service(ResourceSinkServer::new(Remote { calls }));
        tokio::spawn(async move {
            let end = drain.signaled();
            match tls {
                None => {
                    let incoming = TcpListenerStream::new(listener);
                    router.serve_with_incoming_shutdown(incoming, end).await
                }
                Some(config) => {
                    let incoming = tls::incoming(listener, config, tls::Limits::default()).unwrap();
                    router.serve_with_incoming_shutdown(incoming, end).await
                }
            }
        });
        Self {
            address,
            calls: calls_rx,
            _trigger: trigger,
        }
    }

    async fn call(&mut self) -> Call {
        let call = tokio::time::timeout(PATIENCE, self.calls.recv()).await;
        call.unwrap().unwrap()
    }

    fn flag(&self) -> String {
        format!("--sinkAddress={}", self.address)
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn configuration_is_pushed_and_again_after_the_stream_broke() {
    let world = World::new();
    world.write("a.yaml", &sidecar("a", "1"));
    let mut sinks = Sinks::start(None).await;
    let galley = world
        .start_with(&[
            &sinks.flag(),
            "--sinkAuthMode=NONE",
            "--sinkMeta=cluster=one,team=red",
        ])
        .await;
    let mut call = sinks.call().await;
    assert_eq!(call.metadata.get("cluster").unwrap(), "one");
    assert_eq!(call.metadata.get("team").unwrap(), "red");
    // Like sinks of 1.1: subscriptions first, then the answer to the opening message.
    call.send(subscribe(SIDECARS)).await;
    call.trigger().await;
    call.send(answer_to_trigger(Some(Code::Unimplemented)))
        .await;
    let first = call.receive().await;
    assert_eq!(
        (first.collection.as_str(), first.resources.len()),
        (SIDECARS, 1)
    );
    let ack = RequestResources {
        response_nonce: first.nonce,
        ..subscribe(SIDECARS)
    };
    call.send(ack).await;
    world.write("b.yaml", &sidecar("b", "1"));
    assert_eq!(call.receive().await.resources.len(), 2);
    let (_, page) = galley.page("/connectionsj/").await;
    assert!(page.contains("\"service\":\"ResourceSink\""), "{page}");
    assert!(page.contains(&sinks.address.to_string()), "{page}");

    // Also in the other order.
    drop(call);
    let mut call = sinks.call().await;
    call.trigger().await;
    call.send(answer_to_trigger(Some(Code::Unimplemented)))
        .await;
    call.send(subscribe(SIDECARS)).await;
    assert_eq!(call.receive().await.resources.len(), 2);
    let (_, metrics) = galley.page("/metrics").await;
    assert!(
        metrics.contains("galley_mcp_source_reconnections 2"),
        "{metrics}"
    );
    assert!(
        metrics.contains("galley_mcp_source_clients_total 1"),
        "{metrics}"
    );
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_sink_that_takes_the_opening_message_for_a_collection_is_called_again() {
    let world = World::new();
    let mut sinks = Sinks::start(None).await;
    let galley = world
        .start_with(&[&sinks.flag(), "--sinkAuthMode=NONE"])
        .await;
    for code in [None, Some(Code::Internal)] {
        let mut call = sinks.call().await;
        call.trigger().await;
        call.send(answer_to_trigger(code)).await;
        let end = tokio::time::timeout(PATIENCE, call.messages.message())
            .await
            .unwrap();
        assert!(!matches!(end, Ok(Some(_))), "the stream goes on");
    }
    let mut call = sinks.call().await;
    call.trigger().await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mutual_tls_towards_the_sink() {
    let world = World::new();
    let dir = tempfile::tempdir().unwrap();
    let sink = "spiffe://cluster.local/ns/central/sa/sink";
    let issued = world
        .authority
        .issue(&[sink], &["localhost"])
        .write(dir.path());
    let options = ServerOptions::grpc(ClientAuth::Required);
    let config = ReloadingServerConfig::load(&issued, options).unwrap();
    let mut sinks = Sinks::start(Some(config)).await;
    let flag = format!("--sinkAddress=mcps://localhost:{}", sinks.address.port());
    let galley = world
        .start_with(&[&flag, "--sinkAuthMode=MUTUAL_TLS"])
        .await;
    let mut call = sinks.call().await;
    let galley_identity = "spiffe://cluster.local/ns/istio-system/sa/istio-galley-service-account";
    assert_eq!(
        call.identities.as_deref(),
        Some(&[galley_identity.to_owned()][..])
    );
    call.trigger().await;
    galley.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn flags_that_contradict_each_other() {
    let world = World::new();
    for (flags, message) in [
        (
            &["--sinkAddress=a:1"][..],
            "want --sinkAuthMode=NONE or MUTUAL_TLS",
        ),
        (&["--sinkAuthMode=NONE"], "of no use without --sinkAddress"),
        (&["--sinkMeta=a=b"], "of no use without --sinkAddress"),
        (
            &["--sinkAddress=a", "--sinkAuthMode=NONE"],
            "want mcp://host:port",
        ),
        (
            &["--sinkAddress=mcp://a:1", "--sinkAuthMode=MUTUAL_TLS"],
            "contradict each other",
        ),
        (
            &["--sinkAddress=mcps://a:1", "--sinkAuthMode=NONE"],
            "contradict each other",
        ),
        (
            &["--sinkAddress=unix:///s", "--sinkAuthMode=MUTUAL_TLS"],
            "a Unix socket is plain text",
        ),
    ] {
        let error = galley::run::Server::bind(world.args(flags))
            .await
            .unwrap_err();
        assert!(
            format!("{error:#}").contains(message),
            "{flags:?}: {error:#}"
        );
    }
    let flags = [
        "--enable-server=false",
        "--enable-validation=true",
        "--validation-port=0",
        "--sinkAddress=a:1",
        "--sinkAuthMode=NONE",
    ];
    let error = galley::run::Server::bind(world.args(&flags))
        .await
        .unwrap_err();
    assert!(
        error.to_string().contains("needs --enable-server"),
        "{error:#}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_is_named_like_a_scheme() {
    let world = World::new();
    for mode in ["NONE", "MUTUAL_TLS"] {
        let mode = format!("--sinkAuthMode={mode}");
        let flags = world.args(&["--sinkAddress=mcps-sink:9901", &mode]);
        assert!(galley::run::Server::bind(flags).await.is_ok(), "{mode}");
    }
}
