//! Lists objects of the API server in pages, then watches them, for ever.
//!
//! ```text
//! API server ── list, watch ──► Api::follow ── Event ──► Follower (what is kept is its business)
//! ```
//!
//! Not `kube::runtime::watcher`: it tries a watch that is answered with 410 again at the same
//! version for ever, opens a watch that the server closes at once again without a delay, and waits
//! for a list without end. The requests and the stream of events are the crate's.

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

/// A watch that lasted this long was worth opening, even if it told nothing.
const LONG: Duration = Duration::from_secs(10);
/// The end of a watch may be late by this.
const WATCH_MARGIN: Duration = Duration::from_secs(15);

/// The times that matter; others than the defaults are for tests.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    /// Before the second attempt; it doubles.
    pub min_backoff: Duration,
    /// Between attempts at most.
    pub max_backoff: Duration,
    /// How long an answer may take to begin, and a page of a list to arrive.
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

/// What is counted; the process registers the families.
#[derive(Debug, Clone)]
pub struct Metrics {
    /// Objects, and ends of objects, that the server told of.
    pub events: IntCounter,
    /// Failed attempts, by class of failure.
    pub errors: IntCounterVec,
}

/// Which objects.
#[derive(Debug, Clone)]
pub struct Target {
    /// Path of all of them in the API.
    pub url: String,
    /// Objects of a page of a list.
    pub page: u32,
    /// Only those whose fields are so (`metadata.name=a`).
    pub fields: Option<String>,
}

/// Nobody wants to know any more.
#[derive(Debug)]
pub struct Closed;

/// Objects as they come.
pub trait Listed: Clone + DeserializeOwned + Send + 'static {
    /// `metadata.resourceVersion`
    fn version(&self) -> &str;
}

/// What happened.
#[derive(Debug)]
pub enum Event<'a, T> {
    /// A list begins.
    Started,
    /// Some of its objects.
    Page(Vec<T>),
    /// It is complete: what was not in it is gone.
    Complete,
    /// An object is new or changed.
    Applied(T),
    /// An object is gone.
    Deleted(T),
    /// It did not work, and is tried again later.
    Failed(&'a Failure),
    /// It works: a watch is open.
    Works,
}

/// Who wants to know.
pub trait Follower<T>: Send {
    /// An event. An error ends [`Api::follow`].
    fn take(&mut self, event: Event<'_, T>) -> impl Future<Output = Result<(), Closed>> + Send;

    /// After a failure the next attempt is not later than this.
    fn wake(&self) -> Option<Instant> {
        None
    }
}

/// Why it does not work.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// There is no connection.
    #[error("the API server cannot be reached: {0}")]
    Unreachable(String),
    /// There was no answer in time.
    #[error("the API server does not answer")]
    Silent,
    /// The account may not do it (status and message).
    #[error("the API server refuses it ({0}): {1}; the account needs get, list and watch")]
    Refused(u16, String),
    /// The kind is not served.
    #[error("the API server does not have it: {0}")]
    NotFound(String),
    /// Only a new list helps.
    #[error("the API server has forgotten the version")]
    Gone,
    /// Another status, with its message.
    #[error("the API server answers {0}: {1}")]
    Status(u16, String),
    /// The answer is no such object.
    #[error("the answer of the API server cannot be read: {0}")]
    Unreadable(String),
}

impl Failure {
    /// A label.
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

    /// It is about the server, not about a kind.
    #[must_use]
    pub fn is_of_server(&self) -> bool {
        matches!(self, Self::Unreachable(_) | Self::Silent)
    }

    /// The server answered that this kind is not for us.
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
                // The innermost error says what happened, the others where.
                let mut cause: &dyn std::error::Error = error;
                while let Some(inner) = cause.source() {
                    cause = inner;
                }
                Self::Unreachable(cause.to_string())
            }
        }
    }
}

/// Why a request came to its end.
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
    /// Nothing is asked yet.
    #[must_use]
    pub fn new(client: Client, timing: Timing, metrics: Metrics) -> Self {
        Self {
            client,
            timing,
            metrics,
        }
    }

    /// Follows objects until nobody wants to know any more. May be dropped at any time: a follower
    /// sees each event whole or not at all.
    pub async fn follow<T: Listed>(
        &self,
        target: &Target,
        follower: &mut impl Follower<T>,
    ) -> Closed {
        let mut backoff = Backoff::new(self.timing.min_backoff, self.timing.max_backoff);
        let mut position: Option<String> = None;
        // A list that is forgotten before anything came after it is not made again at once.
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
                // Servers close watches as a matter of course, after some minutes.
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
                        // From this position the same would come again.
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

    /// The version of the list, from which to watch.
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
            // Without a limit a connection that broke silently would never be missed.
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
