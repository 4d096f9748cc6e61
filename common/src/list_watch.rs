//! Lists objects of the API server in pages, then watches them, until stopped.
//!
//! ```text
//! API server ── list, watch ──► Api::follow ── Event ──► Follower (keeps what it needs)
//! ```
//!
//! Not `kube::runtime::watcher`: after status 410 it repeats the watch at the same version forever,
//! it reopens a watch that the server closes at once without a delay, and its lists have no
//! deadline. The requests and the stream of events are those of the crate.

use std::fmt;
use std::pin::pin;
use std::time::{Duration, Instant};

use futures::StreamExt;
use kube::api::{ListParams, WatchParams};
use kube::core::{Request, WatchEvent};
use serde::Deserialize;
use serde::de::DeserializeOwned;

use crate::backoff::Backoff;
use crate::kubeclient::Client;
use crate::metrics::{IntCounter, IntCounterVec};

/// A watch that lasted this long was successful, even without events.
const LONG: Duration = Duration::from_secs(10);
/// Tolerance for the end of a watch.
const WATCH_MARGIN: Duration = Duration::from_secs(15);

/// Timing; only tests change the defaults.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Delay before the second attempt; it doubles.
    pub min_backoff: Duration,
    /// Maximum delay between attempts.
    pub max_backoff: Duration,
    /// Time for a response to begin, and for a page of a list to arrive.
    pub request: Duration,
    /// How long the server keeps a watch open.
    pub watch: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            min_backoff: Duration::from_secs(1),
            max_backoff: Duration::from_secs(30),
            request: Duration::from_secs(60),
            watch: Duration::from_secs(280),
        }
    }
}

/// Counters; the process registers the families.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Objects and deletions received.
    pub events: IntCounter,
    /// Failed attempts, by class of failure.
    pub errors: IntCounterVec,
}

/// Selects objects.
#[derive(Debug, Clone)]
pub struct Target {
    /// Their path in the API.
    pub url: String,
    /// Number of objects per page of a list.
    pub page: u32,
    /// Field selector, such as `metadata.name=a`.
    pub fields: Option<String>,
}

/// The follower is closed.
#[derive(Debug)]
pub struct Closed;

/// A page of a list.
pub trait Listed: Clone + DeserializeOwned + Send + 'static {
    /// `metadata.resourceVersion`
    fn version(&self) -> &str;
}

/// An event for the follower.
#[derive(Debug)]
pub enum Event<'a, T> {
    /// A list begins.
    Started,
    /// A page of objects.
    Page(Vec<T>),
    /// The list is complete: other objects have been deleted.
    Complete,
    /// An object was added or changed.
    Applied(T),
    /// An object was deleted.
    Deleted(T),
    /// A request failed, and will be repeated later.
    Failed(&'a Failure),
    /// A watch is open: requests work.
    Works,
}

/// Receives the events.
pub trait Follower<T>: Send {
    /// Handles an event. An error ends [`Api::follow`].
    fn take(&mut self, event: Event<'_, T>) -> impl Future<Output = Result<(), Closed>> + Send;

    /// After a failure the next attempt comes at this time at the latest.
    fn wake(&self) -> Option<Instant> {
        None
    }
}

/// Why a request failed.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No connection.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// No response in time.
    #[error("the API server does not answer")]
    Silent,
    /// The account lacks the permission (status and message).
    #[error(
        "the API server denies access ({0}): {1}; the ServiceAccount needs get, list and watch"
    )]
    Refused(u16, String),
    /// The kind is not served.
    #[error("the API server does not serve the kind: {0}")]
    NotFound(String),
    /// The version is too old; a new list is needed.
    #[error("the API server no longer has the resource version")]
    Gone,
    /// Another status, with its message.
    #[error("the API server responded with status {0}: {1}")]
    Status(u16, String),
    /// The response is invalid.
    #[error("cannot read the response of the API server: {0}")]
    Unreadable(String),
}

impl Failure {
    /// A class, for labels.
    #[must_use]
    pub fn class(&self) -> &'static str {
        match self {
            Self::Unreachable(_) => "unreachable",
            Self::Silent => "timeout",
            Self::Refused(401, _) => "unauthorized",
            Self::Refused(..) => "forbidden",
            Self::NotFound(_) => "not_found",
            Self::Gone => "gone",
            Self::Status(429, _) => "throttled",
            Self::Status(..) => "status",
            Self::Unreadable(_) => "unreadable",
        }
    }

    /// Whether it concerns the server rather than a kind.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Silent)
    }

    /// Whether the server refuses or does not serve this kind.
    #[must_use]
    pub fn is_refusal(&self) -> bool {
        matches!(self, Self::Refused(..) | Self::NotFound(_))
    }
}

impl From<&kube::core::Status> for Failure {
    fn from(status: &kube::core::Status) -> Self {
        let message = status.message.clone();
        match status.code {
            401 | 403 => Self::Refused(status.code, message),
            404 => Self::NotFound(message),
            410 => Self::Gone,
            code => Self::Status(code, message),
        }
    }
}

impl From<kube::Error> for Failure {
    fn from(error: kube::Error) -> Self {
        match &error {
            kube::Error::Api(status) => Self::from(&**status),
            kube::Error::SerdeError(error) => Self::Unreadable(error.to_string()),
            kube::Error::Auth(error) => Self::Refused(401, error.to_string()),
            error => {
                // The innermost error says what happened, the outer ones where.
                let mut cause: &dyn std::error::Error = error;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                Self::Unreachable(cause.to_string())
            }
        }
    }
}

/// Why a request ended.
enum Stop {
    Closed,
    Failed(Failure),
}

impl From<Closed> for Stop {
    fn from(Closed: Closed) -> Self {
        Self::Closed
    }
}

impl From<kube::Error> for Stop {
    fn from(error: kube::Error) -> Self {
        Self::Failed(error.into())
    }
}

fn unreadable(message: impl ToString) -> Stop {
    Stop::Failed(Failure::Unreadable(message.to_string()))
}

#[derive(Debug, Deserialize)]
struct List<T> {
    metadata: ListMeta,
    items: Option<Vec<T>>,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct ListMeta {
    #[serde(default)]
    resource_version: String,
    #[serde(rename = "continue")]
    next: Option<String>,
}

/// The API server, for lists and watches.
#[derive(Clone)]
pub struct Api {
    client: Client,
    timing: Timing,
    metrics: Metrics,
}

impl fmt::Debug for Api {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Api")
            .field("timing", &self.timing)
            .finish_non_exhaustive()
    }
}

impl Api {
    /// Does not send requests yet.
    #[must_use]
    pub fn new(client: Client, timing: Timing, metrics: Metrics) -> Self {
        Self {
            client,
            timing,
            metrics,
        }
    }

    /// Follows objects until the follower is closed. May be dropped at any time: the follower gets
    /// each event completely or not at all.
    pub async fn follow<T: Listed>(
        &self,
        target: &Target,
        follower: &mut impl Follower<T>,
    ) -> Closed {
        let mut backoff = Backoff::new(self.timing.min_backoff, self.timing.max_backoff);
        let mut position: Option<String> = None;
        // A list that expires before any event came is not repeated at once.
        let mut is_fresh = false;
        loop {
            let mut was_useful = false;
            let was_watch = position.is_some();
            let result = match &mut position {
                None => match self.list(target, follower).await {
                    Ok(version) => {
                        position = Some(version);
                        is_fresh = true;
                        continue;
                    }
                    Err(stop) => Err(stop),
                },
                Some(version) => self.watch(target, version, &mut was_useful, follower).await,
            };
            if was_useful {
                is_fresh = false;
                backoff.reset();
            }
            match result {
                // Servers close watches regularly, after some minutes.
                Ok(()) => {
                    if was_useful {
                        continue;
                    }
                    self.count("closed");
                }
                Err(Stop::Closed) => return Closed,
                Err(Stop::Failed(failure)) => {
                    self.count(failure.class());
                    if matches!(failure, Failure::Gone | Failure::Unreadable(_)) {
                        // Watching from this version again would fail in the same way.
                        position = None;
                    }
                    if failure == Failure::Gone && was_watch && !is_fresh {
                        continue;
                    }
                    if let Err(Closed) = follower.take(Event::Failed(&failure)).await {
                        return Closed;
                    }
                }
            }
            let mut next = Instant::now() + backoff.next();
            if let Some(latest) = follower.wake() {
                next = next.min(latest);
            }
            tokio::time::sleep_until(next.into()).await;
        }
    }

    fn count(&self, class: &str) {
        self.metrics.errors.with_label_values(&[class]).inc();
    }

    /// Lists all objects; returns the version from which to watch.
    async fn list<T: Listed>(
        &self,
        target: &Target,
        follower: &mut impl Follower<T>,
    ) -> Result<String, Stop> {
        follower.take(Event::Started).await?;
        let mut params = ListParams::default().limit(target.page);
        params.field_selector.clone_from(&target.fields);
        loop {
            let request = Request::new(&target.url)
                .list(&params)
                .map_err(unreadable)?;
            let text = self.in_time(self.client.request_text(request)).await?;
            let list: List<T> = serde_json::from_str(&text).map_err(unreadable)?;
            drop(text);
            let items = list.items.unwrap_or_default();
            self.metrics.events.inc_by(items.len() as u64);
            follower.take(Event::Page(items)).await?;
            match list.metadata.next.filter(|token| !token.is_empty()) {
                Some(token) => params.continue_token = Some(token),
                None if list.metadata.resource_version.is_empty() => {
                    return Err(unreadable("the list has no metadata.resourceVersion"));
                }
                None => {
                    follower.take(Event::Complete).await?;
                    return Ok(list.metadata.resource_version);
                }
            }
        }
    }

    async fn watch<T: Listed>(
        &self,
        target: &Target,
        version: &mut String,
        was_useful: &mut bool,
        follower: &mut impl Follower<T>,
    ) -> Result<(), Stop> {
        let seconds = u32::try_from(self.timing.watch.as_secs()).unwrap_or(u32::MAX);
        let mut params = WatchParams::default().timeout(seconds);
        params.field_selector.clone_from(&target.fields);
        let request = Request::new(&target.url)
            .watch(&params, version)
            .map_err(unreadable)?;
        let start = Instant::now();
        let events = self
            .in_time(self.client.request_events::<T>(request))
            .await?;
        let mut events = pin!(events);
        follower.take(Event::Works).await?;
        let limit = self.timing.watch + WATCH_MARGIN;
        let ended = loop {
            // Without a limit, a connection that broke silently would never be noticed.
            let event = tokio::time::timeout(limit, events.next()).await;
            let event = match event {
                Err(_) => break Err(Stop::Failed(Failure::Silent)),
                Ok(None) => break Ok(()),
                Ok(Some(Ok(event))) => event,
                Ok(Some(Err(error))) => break Err(error.into()),
            };
            let new = match event {
                WatchEvent::Added(object) | WatchEvent::Modified(object) => {
                    let new = object.version().to_owned();
                    follower.take(Event::Applied(object)).await?;
                    new
                }
                WatchEvent::Deleted(object) => {
                    let new = object.version().to_owned();
                    follower.take(Event::Deleted(object)).await?;
                    new
                }
                WatchEvent::Bookmark(bookmark) => bookmark.metadata.resource_version,
                WatchEvent::Error(status) => break Err(Stop::Failed(Failure::from(&*status))),
            };
            if new.is_empty() {
                break Err(unreadable("an object has no metadata.resourceVersion"));
            }
            self.metrics.events.inc();
            *version = new;
            *was_useful = true;
        };
        *was_useful |= start.elapsed() >= LONG;
        ended
    }

    async fn in_time<T>(&self, request: impl Future<Output = kube::Result<T>>) -> Result<T, Stop> {
        match tokio::time::timeout(self.timing.request, request).await {
            Ok(answer) => Ok(answer?),
            Err(_) => Err(Stop::Failed(Failure::Silent)),
        }
    }
}
