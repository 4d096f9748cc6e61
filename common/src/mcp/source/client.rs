//! A source that calls: sends to a sink that serves `ResourceSink`.

use std::fmt;
use std::future::ready;
use std::time::{Duration, Instant};

use futures::{Stream, StreamExt};
use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use prometheus::IntCounter;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::metadata::MetadataMap;
use tonic::{Code, Request, Status};

use super::stream::{End, Source};
use crate::drain;
use crate::grpc::mcp::resource_sink_client::ResourceSinkClient;
use crate::mcp::dial::{Connect, Ending, Pace, describe};
use crate::metrics::Registry;
use mesh_core::mcp::wire::Current;

/// Delay before an optional sink without the service is called again: a newer version may have
/// replaced it.
pub const UNIMPLEMENTED_RETRY: Duration = Duration::from_secs(600);

/// Settings of a sink that is called.
#[derive(Debug, Clone)]
pub struct ClientOptions {
    /// Address of the sink, for messages and debug pages.
    pub sink: String,
    /// Sent as metadata of each call.
    pub metadata: MetadataMap,
    /// Maximum size of a request, in bytes.
    pub max_request_bytes: usize,
    /// Initial interval of HTTP/2 keepalive pings.
    pub ping_interval: Duration,
    /// A sink without the service (UNIMPLEMENTED) is not reported as a failure, and called again
    /// after [`UNIMPLEMENTED_RETRY`].
    pub is_optional: bool,
}

/// Keeps one stream to a sink open. Create it and spawn [`Client::run`].
pub struct Client {
    source: Source,
    options: ClientOptions,
    connector: Box<dyn Connect>,
    reconnections: IntCounter,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// How a stream ended.
struct Outcome {
    code: Code,
    reason: String,
    /// Whether the sink requested something.
    of_use: bool,
}

impl Outcome {
    fn failed(code: Code, reason: String) -> Self {
        Self {
            code,
            reason,
            of_use: false,
        }
    }
}

impl Client {
    /// Sends what `source` serves. `reconnections` counts the streams, see [`Self::counter`].
    pub fn new(
        source: Source,
        options: ClientOptions,
        connector: impl Connect,
        reconnections: IntCounter,
    ) -> Self {
        Self {
            source,
            options,
            connector: Box::new(connector),
            reconnections,
        }
    }

    /// Registers `<prefix>_mcp_source_reconnections`, for all clients of a process.
    pub fn counter(registry: &Registry, prefix: &str) -> IntCounter {
        registry.counter(
            &format!("{prefix}_mcp_source_reconnections"),
            "Streams opened to sinks.",
        )
    }

    /// Runs until the process drains.
    pub async fn run(self, drain: drain::Watch) {
        let mut pace = Pace::new(self.options.ping_interval);
        loop {
            let began = Instant::now();
            let outcome = tokio::select! {
                () = drain.signaled() => return,
                outcome = self.stream(pace.ping()) => outcome,
            };
            let wait = self.ended(&outcome, &mut pace, began.elapsed());
            tokio::select! {
                () = drain.signaled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// The delay after a stream that has lived for this long.
    fn ended(&self, outcome: &Outcome, pace: &mut Pace, lived: Duration) -> Duration {
        if self.options.is_optional && outcome.code == Code::Unimplemented {
            tracing::debug!(
                sink = self.options.sink,
                "the sink does not serve ResourceSink"
            );
            return UNIMPLEMENTED_RETRY;
        }
        let wait = pace.ended(Ending {
            code: outcome.code,
            reason: &outcome.reason,
            of_use: outcome.of_use,
            lived,
        });
        tracing::warn!(
            sink = self.options.sink,
            error = outcome.reason,
            wait_ms = wait.as_millis(),
            ping_ms = pace.ping().as_millis(),
            "the stream to the sink ended; it will be opened again"
        );
        wait
    }

    /// One stream, from connecting to its end.
    async fn stream(&self, ping: Duration) -> Outcome {
        let channel = match self.connector.connect(ping).await {
            Ok(channel) => channel,
            Err(error) => return Outcome::failed(Code::Unavailable, format!("{error:#}")),
        };
        let (tx, rx) = mpsc::channel(1);
        // Some servers do not respond to a call before its first message. This one has no
        // collection, and sinks reject it.
        if tx.try_send(Ok(Resources::default())).is_err() {
            let reason = "the response channel is full".to_owned();
            return Outcome::failed(Code::Internal, reason);
        }
        // A status cannot be sent to a server: it only sees the end of the messages.
        let messages = ReceiverStream::new(rx);
        let messages = messages
            .take_while(|message: &Result<_, Status>| ready(message.is_ok()))
            .filter_map(|message| ready(message.ok()));
        let mut request = Request::new(messages);
        *request.metadata_mut() = self.options.metadata.clone();
        let mut client = ResourceSinkClient::new(channel)
            .max_decoding_message_size(self.options.max_request_bytes);
        let requests = match client.establish_resource_stream(request).await {
            Ok(response) => response.into_inner(),
            Err(status) => return Outcome::failed(status.code(), describe(&status)),
        };
        self.reconnections.inc();
        let peer = self.options.sink.clone();
        // The maximum age of the stream is up to the sink, which knows its replicas.
        let serve = self
            .source
            .open("ResourceSink", peer, String::new(), Duration::MAX);
        tracing::info!(
            conn = serve.connection.id,
            sink = self.options.sink,
            "connected to a sink"
        );
        let mut asked = false;
        let requests = without_trigger(requests).inspect(|item| asked |= item.is_ok());
        let end = serve.run::<Current>(requests, &tx).await;
        let (code, reason) = match end {
            End::Peer(Some(status)) | End::Refused(status) => (status.code(), describe(&status)),
            End::Peer(None) => (Code::Ok, "the sink ended the stream".to_owned()),
            End::Age => (Code::Ok, "the stream reached its maximum age".to_owned()),
        };
        Outcome {
            code,
            reason,
            of_use: asked,
        }
    }
}

/// The requests of a sink without its answer to the opening message, which must be a rejection.
/// Sinks of 1.1 send their subscriptions before that answer.
fn without_trigger<S>(requests: S) -> impl Stream<Item = Result<RequestResources, Status>> + Unpin
where
    S: Stream<Item = Result<RequestResources, Status>> + Unpin,
{
    requests.filter_map(|item| {
        let kept = match item {
            Ok(request) if request.collection.is_empty() => match request.error_detail {
                Some(error) if error.code == i32::from(Code::Unimplemented) => None,
                _ => Some(Err(Status::failed_precondition(
                    "the sink did not reject a collection without a name as UNIMPLEMENTED",
                ))),
            },
            other => Some(other),
        };
        ready(kept)
    })
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use tokio_stream::wrappers::TcpListenerStream;

    use super::*;
    use crate::mcp::Dial;
    use crate::mcp::source::{Metrics, Server};

    struct Nobody;

    impl crate::mcp::source::Authorize for Nobody {
        fn authorize(&self, _: Option<&[String]>) -> Result<String, String> {
            Err("access denied".to_owned())
        }
    }

    /// A source on loopback, which is not a sink.
    async fn elsewhere(drain: &drain::Watch) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = format!("mcp://{}", listener.local_addr().unwrap());
        let metrics = Metrics::register(&Registry::empty(), "x", []);
        let (_, snapshots) = tokio::sync::watch::channel(None);
        let door = std::sync::Arc::new(Nobody);
        let server = Server::new(snapshots, door, Default::default(), metrics, drain.clone());
        let end = drain.signaled();
        let router = tonic::transport::Server::builder().add_routes(server.routes());
        tokio::spawn(async move {
            let incoming = TcpListenerStream::new(listener);
            router.serve_with_incoming_shutdown(incoming, end).await
        });
        address
    }

    #[tokio::test]
    async fn an_optional_sink_that_is_none_is_left_alone_for_long() {
        let (_trigger, drain) = drain::channel();
        let sink = elsewhere(&drain).await;
        for is_optional in [true, false] {
            let registry = Registry::empty();
            let metrics = Metrics::register(&registry, "x", []);
            let (_, snapshots) = tokio::sync::watch::channel(None);
            let options = ClientOptions {
                sink: sink.clone(),
                metadata: MetadataMap::new(),
                max_request_bytes: 1 << 20,
                ping_interval: Duration::from_secs(30),
                is_optional,
            };
            let dial = Dial::new(&sink, None, None).unwrap();
            let source = Source::new(snapshots, true, metrics, drain.clone());
            let client = Client::new(source, options, dial, Client::counter(&registry, "x"));
            let mut pace = Pace::new(Duration::from_secs(30));
            let outcome = client.stream(pace.ping()).await;
            assert_eq!(outcome.code, Code::Unimplemented);
            let wait = client.ended(&outcome, &mut pace, Duration::ZERO);
            assert_eq!(wait == UNIMPLEMENTED_RETRY, is_optional, "{wait:?}");
            // A sink that is away is called again soon.
            let outcome = Outcome::failed(Code::Unavailable, "away".to_owned());
            let wait = client.ended(&outcome, &mut pace, Duration::ZERO);
            assert!(wait < UNIMPLEMENTED_RETRY);
        }
    }
}
