//! The sink on the wire: one stream at a time, reopened until the process ends.

use std::collections::{BTreeMap, VecDeque};
use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use istio_api::mcp::v1alpha1::{RequestResources, Resources};
use parking_lot::Mutex;
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::{Code, Streaming};

use super::metrics::Metrics;
use super::take::take;
use super::updater::Updater;
use crate::drain;
use crate::grpc::mcp::resource_source_client::ResourceSourceClient;
use crate::mcp::dial::{Connect, Ending, Pace, describe, last_word};
use mesh_core::mcp::sink::{CollectionStatus, Machine, Reconnect};

/// Number of answers that are kept for debug pages.
const KEPT_REQUESTS: usize = 32;

/// Time to connect and to have the stream accepted.
const ESTABLISH_TIMEOUT: Duration = Duration::from_secs(20);

/// Settings of a sink.
#[derive(Debug, Clone)]
pub struct Options {
    /// Address of the source, for messages only.
    pub source: String,
    /// Our name, as sent to the source: `<pod>.<namespace>`.
    pub node_id: String,
    /// Collections to subscribe to.
    pub collections: Vec<String>,
    /// Request deltas. A source without them sends everything; the result is the same.
    pub incremental: bool,
    /// Maximum size of a message, in bytes.
    pub max_message_bytes: usize,
    /// Initial interval of HTTP/2 keepalive pings.
    pub ping_interval: Duration,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            source: String::new(),
            node_id: String::new(),
            collections: Vec::new(),
            incremental: true,
            max_message_bytes: 256 << 20,
            ping_interval: Duration::from_secs(30),
        }
    }
}

/// An answer that was sent to the source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// Time of the answer.
    pub time: SystemTime,
    /// Collection.
    pub collection: String,
    /// Version that was answered.
    pub version: String,
    /// Nonce that was answered; empty for a subscription.
    pub nonce: String,
    /// Why the message was rejected.
    pub error: Option<String>,
}

/// The state of a sink, for readiness and debug pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Status {
    /// Whether a stream is open.
    pub connected: bool,
    /// Why the last stream ended or could not be opened.
    pub last_error: Option<String>,
    /// State by collection.
    pub collections: BTreeMap<String, CollectionStatus>,
    /// The last answers, oldest first.
    pub requests: VecDeque<Request>,
}

/// Gives access to the state of a client.
#[derive(Debug, Clone)]
pub struct Handle {
    status: Arc<Mutex<Status>>,
    synced: watch::Receiver<bool>,
}

impl Handle {
    /// A copy of the present state.
    pub fn status(&self) -> Status {
        self.status.lock().clone()
    }

    /// Collections that have not been received yet; empty once synced.
    pub fn missing(&self) -> Vec<String> {
        let status = self.status.lock();
        let missing = status
            .collections
            .iter()
            .filter(|(_, collection)| !collection.synced);
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// Whether every collection was applied at least once. Stays true when the connection is lost.
    pub fn is_synced(&self) -> bool {
        *self.synced.borrow()
    }

    /// Waits for [`Self::is_synced`]. Never returns if the client ends before.
    pub async fn synced(&self) {
        let mut synced = self.synced.clone();
        if synced.wait_for(|synced| *synced).await.is_err() {
            std::future::pending::<()>().await;
        }
    }
}

/// The sink. Create it, keep the handle, spawn [`Client::run`].
pub struct Client<U> {
    options: Options,
    connector: Box<dyn Connect>,
    updater: U,
    machine: Machine,
    metrics: Metrics,
    status: Arc<Mutex<Status>>,
    synced: watch::Sender<bool>,
}

impl<U> fmt::Debug for Client<U> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client")
            .field("options", &self.options)
            .finish_non_exhaustive()
    }
}

/// How a stream ended.
struct End {
    code: Code,
    text: String,
    delivered: bool,
}

impl<U: Updater> Client<U> {
    /// Creates the client; it connects in [`Self::run`].
    pub fn new(
        options: Options,
        connector: impl Connect,
        updater: U,
        metrics: Metrics,
    ) -> (Self, Handle) {
        let collections = options.collections.iter().cloned();
        let machine = Machine::new(&options.node_id, collections, options.incremental);
        let status = Status {
            collections: machine.status(),
            ..Status::default()
        };
        let status = Arc::new(Mutex::new(status));
        let (synced, synced_rx) = watch::channel(machine.missing().is_empty());
        let handle = Handle {
            status: status.clone(),
            synced: synced_rx,
        };
        let connector = Box::new(connector);
        (
            Self {
                options,
                connector,
                updater,
                machine,
                metrics,
                status,
                synced,
            },
            handle,
        )
    }

    /// Runs until the process drains.
    pub async fn run(mut self, drain: drain::Watch) {
        let mut pace = Pace::new(self.options.ping_interval);
        loop {
            let began = Instant::now();
            let end = tokio::select! {
                () = drain.signaled() => return,
                end = self.stream(pace.ping()) => end,
            };
            self.status.lock().connected = false;
            self.metrics.receive_failed(end.code);
            let reconnect = self.machine.closed(&end.text, Instant::now());
            self.publish();
            let wait = match reconnect {
                Reconnect::Now => Duration::ZERO,
                Reconnect::Later => pace.ended(Ending {
                    code: end.code,
                    reason: &end.text,
                    of_use: end.delivered,
                    lived: began.elapsed(),
                }),
            };
            tracing::warn!(
                source = self.options.source,
                code = ?end.code,
                error = end.text,
                wait_ms = wait.as_millis(),
                ping_ms = pace.ping().as_millis(),
                "the configuration stream ended; what was received stays in force"
            );
            self.status.lock().last_error = Some(end.text);
            tokio::select! {
                () = drain.signaled() => return,
                () = tokio::time::sleep(wait) => {}
            }
        }
    }

    /// One stream, from connecting to its end.
    async fn stream(&mut self, ping: Duration) -> End {
        let fail = |text: String| End {
            code: Code::Unavailable,
            text,
            delivered: false,
        };
        let channel =
            match tokio::time::timeout(ESTABLISH_TIMEOUT, self.connector.connect(ping)).await {
                Ok(Ok(channel)) => channel,
                Ok(Err(error)) => return fail(format!("{error:#}")),
                Err(_) => return fail("timed out while connecting".to_owned()),
            };
        let opening = self.machine.open(Instant::now());
        // Room for all initial requests and one answer each, so that the stream never waits for
        // itself.
        let (tx, rx) = mpsc::channel(opening.len() * 2 + 1);
        for request in opening {
            self.record(&request, "");
            if tx.try_send(request).is_err() {
                return fail("the request channel is full".to_owned());
            }
        }
        let mut client = ResourceSourceClient::new(channel)
            .max_decoding_message_size(self.options.max_message_bytes)
            .max_encoding_message_size(self.options.max_message_bytes);
        let established = client.establish_resource_stream(ReceiverStream::new(rx));
        // No timeout, as a source may hold back its headers until it has something to send:
        // keepalive notices a dead peer.
        let messages = match established.await {
            Ok(response) => response.into_inner(),
            Err(status) => {
                return End {
                    code: status.code(),
                    text: describe(&status),
                    delivered: false,
                };
            }
        };
        self.metrics.reconnections.inc();
        {
            let mut status = self.status.lock();
            status.connected = true;
            status.last_error = None;
        }
        tracing::info!(
            source = self.options.source,
            "connected to the configuration source"
        );
        self.receive(messages, tx).await
    }

    async fn receive(
        &mut self,
        mut messages: Streaming<Resources>,
        answers: mpsc::Sender<RequestResources>,
    ) -> End {
        let mut delivered = false;
        loop {
            // A collection that this source did not have before is requested again in time.
            let retry = self.machine.retry_at().map(tokio::time::Instant::from_std);
            let message = tokio::select! {
                message = messages.message() => message,
                () = tokio::time::sleep_until(retry.unwrap_or_else(tokio::time::Instant::now)),
                    if retry.is_some() =>
                {
                    let text = "reopening the stream with all collections".to_owned();
                    // We end it, which does not mean that the source rejects our pings.
                    return End { code: Code::Cancelled, text, delivered: true };
                }
            };
            let message = match message {
                Ok(Some(message)) => message,
                Ok(None) => {
                    let text = "the source ended the stream".to_owned();
                    return End {
                        code: Code::Ok,
                        text,
                        delivered,
                    };
                }
                Err(status) => {
                    return End {
                        code: status.code(),
                        text: describe(&status),
                        delivered,
                    };
                }
            };
            if message.nonce.is_empty() {
                // The answer would be read as a new subscription, and be answered again.
                return End {
                    code: Code::InvalidArgument,
                    text: format!("the message of {} has no nonce", message.collection),
                    delivered: false,
                };
            }
            delivered = true;
            let version = message.system_version_info.clone();
            let machine = &mut self.machine;
            let reply = take(machine, &mut self.updater, &self.metrics, message).await;
            self.record(&reply, &version);
            self.publish();
            if answers.send(reply).await.is_err() {
                self.metrics.send_failed();
                // Only the status says which collection is unknown to a source of 1.1.
                return match last_word(messages).await {
                    Some(status) => End {
                        code: status.code(),
                        text: describe(&status),
                        delivered,
                    },
                    None => End {
                        code: Code::Unavailable,
                        text: "the source no longer accepts answers".to_owned(),
                        delivered,
                    },
                };
            }
        }
    }

    fn record(&self, request: &RequestResources, version: &str) {
        let mut status = self.status.lock();
        if status.requests.len() == KEPT_REQUESTS {
            status.requests.pop_front();
        }
        status.requests.push_back(Request {
            time: SystemTime::now(),
            collection: request.collection.clone(),
            version: version.to_owned(),
            nonce: request.response_nonce.clone(),
            error: request
                .error_detail
                .as_ref()
                .map(|error| error.message.clone()),
        });
    }

    fn publish(&self) {
        self.status.lock().collections = self.machine.status();
        let synced = self.machine.missing().is_empty();
        self.synced.send_if_modified(|was| {
            let news = synced && !*was;
            *was |= synced;
            news
        });
    }
}
