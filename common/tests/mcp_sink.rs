//! A sink on a real connection, with old or faulty sources.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

use std::net::SocketAddr;
use std::time::Duration;

use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use mesh_common::drain;
use mesh_common::grpc::mcp::resource_source_server::{ResourceSource, ResourceSourceServer};
use mesh_common::mcp::Dial;
use mesh_common::mcp::sink::{Client, Handle, Metrics, Options, Status as SinkStatus, Updater};
use mesh_common::metrics::Registry;
use mesh_core::mcp::sink::Change;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_stream::wrappers::{ReceiverStream, TcpListenerStream};
use tonic::{Request, Response, Status, Streaming};

/// Maximum time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

/// A source that answers each subscription with an empty collection, as galley 1.1 without objects
/// does.
#[derive(Debug, Clone)]
struct Source {
    known: Vec<&'static str>,
    nonce: &'static str,
}

#[tonic::async_trait]
impl ResourceSource for Source {
    type EstablishResourceStreamStream = ReceiverStream<Result<Resources, Status>>;

    async fn establish_resource_stream(
        &self,
        request: Request<Streaming<RequestResources>>,
    ) -> Result<Response<Self::EstablishResourceStreamStream>, Status> {
        let (tx, rx) = mpsc::channel(64);
        let (source, mut requests) = (self.clone(), request.into_inner());
        tokio::spawn(async move {
            while let Ok(Some(request)) = requests.message().await {
                let name = request.collection;
                let answer = if !source.known.contains(&name.as_str()) {
                    Err(Status::invalid_argument(format!(
                        "unsupported collection {name:?}"
                    )))
                } else if request.response_nonce.is_empty() {
                    Ok(Resources {
                        system_version_info: "0".to_owned(),
                        collection: name,
                        nonce: source.nonce.to_owned(),
                        ..Resources::default()
                    })
                } else {
                    continue;
                };
                let is_end = answer.is_err();
                if tx.send(answer).await.is_err() || is_end {
                    return;
                }
            }
        });
        Ok(Response::new(ReceiverStream::new(rx)))
    }
}

struct Nothing;

impl Updater for Nothing {
    async fn apply(&mut self, change: Change) -> Result<(), String> {
        assert!(change.added.is_empty() && change.removed.is_empty());
        Ok(())
    }
}

async fn serve(source: Source) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let router = tonic::transport::Server::builder().add_service(ResourceSourceServer::new(source));
    tokio::spawn(router.serve_with_incoming(TcpListenerStream::new(listener)));
    address
}

fn connect(address: SocketAddr, collections: &[&str]) -> (Handle, drain::Trigger) {
    let options = Options {
        source: address.to_string(),
        collections: collections.iter().map(|&name| name.to_owned()).collect(),
        ..Options::default()
    };
    let dial = Dial::new(&address.to_string(), None, None).unwrap();
    let metrics = Metrics::register(&Registry::empty(), "pilot");
    let (client, handle) = Client::new(options, dial, Nothing, metrics);
    let (trigger, drain) = drain::channel();
    tokio::spawn(client.run(drain));
    (handle, trigger)
}

async fn until(handle: &Handle, test: impl Fn(&SinkStatus) -> bool) -> SinkStatus {
    let wait = async {
        loop {
            let status = handle.status();
            if test(&status) {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let waited = tokio::time::timeout(PATIENCE, wait).await;
    waited.unwrap_or_else(|_| panic!("{:#?}", handle.status()))
}

#[tokio::test(flavor = "multi_thread")]
async fn a_source_that_ends_the_stream_for_what_it_does_not_know() {
    let source = Source {
        known: vec!["old/a", "old/b", "old/c"],
        nonce: "1",
    };
    let address = serve(source).await;
    let wanted = ["new/x", "new/y", "old/a", "old/b", "old/c"];
    let (handle, _trigger) = connect(address, &wanted);
    tokio::time::timeout(PATIENCE, handle.synced())
        .await
        .unwrap();
    let status = until(&handle, |status| status.connected).await;
    assert_eq!(handle.missing(), Vec::<String>::new());
    for name in wanted {
        let row = &status.collections[name];
        assert_eq!(row.unsupported, name.starts_with("new/"), "{name}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_message_without_a_nonce_is_not_answered() {
    let source = Source {
        known: vec!["old/a"],
        nonce: "",
    };
    let address = serve(source).await;
    let (handle, _trigger) = connect(address, &["old/a"]);
    let status = until(&handle, |status| status.last_error.is_some()).await;
    assert_eq!(
        status.last_error.as_deref(),
        Some("the message of old/a has no nonce")
    );
    assert_eq!(status.requests.len(), 1, "{:#?}", status.requests);
}
