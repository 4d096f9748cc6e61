//! The source's side of one stream, without IO: takes requests and snapshots, returns responses.
//!
//! Each collection has at most one outstanding response (`pending`). Its acknowledgement opens the
//! watch again. A response is built when the transport can take it, from the snapshot at that time,
//! so that a slow sink skips versions and the source queues nothing but names.

use std::collections::{BTreeMap, VecDeque};
use std::sync::Arc;
use std::time::{Duration, Instant};

use imbl::ordmap::DiffItem;
use istio_api::mcp::v1alpha1::{RequestResources, Resource, Resources as Message};

use super::snapshot::{Resources, Snapshot, metadata};

/// Maximum number of collections per stream; a sink that requests more is rejected.
pub const MAX_COLLECTIONS: usize = 512;

/// Maximum length of the name of a collection, in bytes; a sink that requests a longer one is
/// rejected.
pub const MAX_NAME_BYTES: usize = 256;

/// Maximum length of the text of a rejection that is kept, in bytes.
pub const MAX_REASON_BYTES: usize = 1024;

/// Maximum size of what a sink says that it holds, in bytes per stream; a collection that exceeds
/// it is sent in full.
pub const MAX_TOLD_BYTES: usize = 4 << 20;

/// Repeated subscriptions to a collection are answered at most once in this time.
pub const RESUBSCRIBE_INTERVAL: Duration = Duration::from_secs(1);

/// Version of a collection that has never had a resource.
pub const EMPTY_VERSION: &str = "0";

/// The rules of a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Dialect {
    /// `ResourceSource`, and `ResourceSink` with the roles in the call reversed.
    Resources,
    /// `AggregatedMeshConfigService` of 1.0: a nonce is valid until a newer one is sent, a
    /// subscription states the held version, and there are no deltas.
    Aggregated,
}

/// A request of either service.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Request {
    /// The request; one of the older service is converted to the newer one.
    pub message: RequestResources,
    /// Version of the collection that the sink holds, if it states it.
    pub version: Option<String>,
}

impl From<RequestResources> for Request {
    fn from(message: RequestResources) -> Self {
        Self {
            message,
            version: None,
        }
    }
}

/// The meaning of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// First or repeated subscription.
    Subscribe,
    /// The pending response was acknowledged, `after` this time.
    Ack {
        /// Time between response and request.
        after: Duration,
    },
    /// The pending response was rejected. The same version is not sent again.
    Nack {
        /// gRPC code.
        code: i32,
        /// The reason, as the sink has it.
        message: String,
    },
    /// The nonce is not that of the pending response; nothing changed.
    Stale {
        /// The code, if it was a rejection.
        nack: Option<i32>,
    },
    /// The stream exceeded [`MAX_COLLECTIONS`] and must end.
    TooMany,
    /// The stream exceeded [`MAX_NAME_BYTES`] and must end.
    LongName,
}

/// A response to send.
#[derive(Debug, Clone, PartialEq)]
pub struct Outgoing {
    /// The message.
    pub message: Message,
    /// Whether the snapshot does not know the collection (the response is empty).
    pub unknown: bool,
}

/// State of one collection on a stream, for debug pages.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Progress {
    /// Version of the last response that was sent.
    pub sent: String,
    /// Version of the last response that was acknowledged.
    pub acked: String,
    /// Text of the last rejection, cleared by the next acknowledgement.
    pub nack: Option<String>,
    /// Since when a response has been outstanding.
    pub pending_since: Option<Instant>,
    /// Whether the sink accepts deltas.
    pub incremental: bool,
}

#[derive(Debug)]
struct Pending {
    version: Arc<str>,
    resources: Resources,
    since: Instant,
}

/// What the sink is known to hold.
#[derive(Debug, Default)]
enum Held {
    #[default]
    Unknown,
    /// As the sink said when it connected: versions by name, and their size in bytes.
    Told(BTreeMap<String, String>, usize),
    /// As acknowledged by the sink.
    Acked(Resources),
}

#[derive(Debug, Default)]
struct Watch {
    /// `Some`: the sink waits for a version other than this one (`None`: for any).
    open: Option<Option<Arc<str>>>,
    pending: Option<Pending>,
    /// Nonce of the last response, whether outstanding or not.
    nonce: String,
    held: Held,
    incremental: bool,
    /// The sink asked for everything: the next response is full.
    full: bool,
    queued: bool,
    not_before: Option<Instant>,
    subscribed: Option<Instant>,
    progress: Progress,
}

/// State of one stream.
#[derive(Debug)]
pub struct Machine {
    dialect: Dialect,
    watches: BTreeMap<Arc<str>, Watch>,
    queue: VecDeque<Arc<str>>,
    nonce: u64,
    incremental: bool,
}

impl Machine {
    /// `incremental`: whether sinks that request deltas get them.
    pub fn new(dialect: Dialect, incremental: bool) -> Self {
        Self {
            dialect,
            watches: BTreeMap::new(),
            queue: VecDeque::new(),
            nonce: 0,
            incremental,
        }
    }

    /// Handles a request of the sink.
    pub fn request(
        &mut self,
        request: impl Into<Request>,
        snapshot: Option<&Snapshot>,
        now: Instant,
    ) -> Verdict {
        let Request {
            message: request,
            version,
        } = request.into();
        let known = self.watches.get_key_value(&*request.collection);
        let (name, first) = match known {
            Some((name, _)) => (name.clone(), false),
            None if request.collection.len() > MAX_NAME_BYTES => return Verdict::LongName,
            None if self.watches.len() >= MAX_COLLECTIONS => return Verdict::TooMany,
            None => (Arc::from(request.collection.as_str()), true),
        };
        if !self.is_current(known.map(|(_, watch)| watch), &request.response_nonce) {
            return Verdict::Stale {
                nack: request.error_detail.map(|error| error.code),
            };
        }
        let told = self.told();

        let watch = self.watches.entry(name.clone()).or_default();
        watch.incremental = self.incremental && request.incremental;
        watch.progress.incremental = watch.incremental;
        let verdict = if let Some(pending) = watch.pending.take() {
            watch.progress.pending_since = None;
            watch.open = Some(Some(pending.version.clone()));
            match request.error_detail {
                // An empty nonce means a subscription; its error is ignored.
                Some(error) if !request.response_nonce.is_empty() => {
                    let mut message = error.message;
                    message.truncate(message.floor_char_boundary(MAX_REASON_BYTES));
                    watch.progress.nack = Some(message.clone());
                    Verdict::Nack {
                        code: error.code,
                        message,
                    }
                }
                _ => {
                    watch.progress.acked = pending.version.to_string();
                    watch.progress.nack = None;
                    watch.held = Held::Acked(pending.resources);
                    Verdict::Ack {
                        after: now.saturating_duration_since(pending.since),
                    }
                }
            }
        } else {
            if first {
                let versions = request.initial_resource_versions;
                let bytes = versions.iter().map(told_bytes).sum();
                if watch.incremental && bytes > 0 && told + bytes <= MAX_TOLD_BYTES {
                    watch.held = Held::Told(versions, bytes);
                }
            } else {
                watch.full = true;
                if watch.not_before.is_none() {
                    let earliest = watch.subscribed.map(|at| at + RESUBSCRIBE_INTERVAL);
                    watch.not_before = earliest.filter(|at| *at > now);
                }
            }
            watch.subscribed = Some(watch.not_before.unwrap_or(now));
            watch.open = Some(version.map(Arc::from));
            Verdict::Subscribe
        };
        if let Some(snapshot) = snapshot {
            Self::enqueue(&mut self.queue, &name, watch, snapshot);
        }
        verdict
    }

    /// Whether a request answers the last response.
    fn is_current(&self, watch: Option<&Watch>, nonce: &str) -> bool {
        let sent = watch.map_or("", |watch| &*watch.nonce);
        let is_pending = watch.is_some_and(|watch| watch.pending.is_some());
        match self.dialect {
            Dialect::Resources => nonce.is_empty() || (is_pending && nonce == sent),
            // A repeated answer changes nothing either: the response is no longer outstanding.
            Dialect::Aggregated => sent.is_empty() || (is_pending && nonce == sent),
        }
    }

    /// Size of what the sink said that it holds, in bytes.
    fn told(&self) -> usize {
        let told = self.watches.values().map(|watch| match &watch.held {
            Held::Told(_, bytes) => *bytes,
            Held::Unknown | Held::Acked(_) => 0,
        });
        told.sum()
    }

    /// Handles a new snapshot: every open watch whose version has changed becomes due.
    pub fn snapshot(&mut self, snapshot: &Snapshot) {
        for (name, watch) in &mut self.watches {
            Self::enqueue(&mut self.queue, name, watch, snapshot);
        }
    }

    fn enqueue(
        queue: &mut VecDeque<Arc<str>>,
        name: &Arc<str>,
        watch: &mut Watch,
        snapshot: &Snapshot,
    ) {
        let version = snapshot
            .get(name)
            .map_or(EMPTY_VERSION, |collection| &collection.version);
        let due = match &watch.open {
            None => false,
            Some(None) => true,
            Some(Some(last)) => **last != *version,
        };
        if due && !watch.queued {
            watch.queued = true;
            queue.push_back(name.clone());
        }
    }

    /// Whether [`Self::next`] has something to send at `now`.
    pub fn is_due(&self, now: Instant) -> bool {
        self.queue.iter().any(|name| self.allowed(name, now))
    }

    /// When a response that the rate limit delays becomes due.
    pub fn wake(&self) -> Option<Instant> {
        self.queue
            .iter()
            .filter_map(|name| self.watches.get(name)?.not_before)
            .min()
    }

    fn allowed(&self, name: &str, now: Instant) -> bool {
        self.watches
            .get(name)
            .is_some_and(|watch| watch.not_before.is_none_or(|at| at <= now))
    }

    /// The next response, built from `snapshot`.
    pub fn next(&mut self, snapshot: &Snapshot, now: Instant) -> Option<Outgoing> {
        loop {
            let position = self.queue.iter().position(|name| self.allowed(name, now))?;
            let name = self.queue.remove(position)?;
            let Some(watch) = self.watches.get_mut(&name) else {
                continue;
            };
            watch.queued = false;
            watch.not_before = None;
            let found = snapshot.get(&name);
            let version = found.map_or_else(|| Arc::from(EMPTY_VERSION), |c| c.version.clone());
            match &watch.open {
                None => continue,
                // While the response waited, the collection returned to the state that the sink
                // has.
                Some(Some(last)) if *last == version => continue,
                Some(_) => {}
            }
            watch.open = None;
            let resources = found.map(|c| c.resources.clone()).unwrap_or_default();
            self.nonce += 1;
            let mut message = Message {
                system_version_info: version.to_string(),
                collection: name.to_string(),
                nonce: self.nonce.to_string(),
                ..Message::default()
            };
            fill(&mut message, watch, &resources);
            watch.full = false;
            watch.nonce.clone_from(&message.nonce);
            watch.progress.sent = version.to_string();
            watch.progress.pending_since = Some(now);
            watch.pending = Some(Pending {
                version,
                resources,
                since: now,
            });
            return Some(Outgoing {
                message,
                unknown: found.is_none(),
            });
        }
    }

    /// What the sink has been sent and has acknowledged, by collection.
    pub fn progress(&self) -> impl Iterator<Item = (&Arc<str>, &Progress)> {
        self.watches
            .iter()
            .map(|(name, watch)| (name, &watch.progress))
    }

    /// The progress of one collection.
    pub fn progress_of(&self, collection: &str) -> Option<&Progress> {
        self.watches.get(collection).map(|watch| &watch.progress)
    }
}

/// Fills in the delta to what the sink holds, or everything.
fn fill(message: &mut Message, watch: &Watch, resources: &Resources) {
    let deltas = watch.incremental && !watch.full;
    match &watch.held {
        Held::Acked(held) if deltas => {
            message.incremental = true;
            for difference in held.diff(resources) {
                match difference {
                    DiffItem::Update { old, new } if unchanged(old.1, new.1) => {}
                    DiffItem::Add(_, new) | DiffItem::Update { new: (_, new), .. } => {
                        message.resources.push(Resource::clone(new));
                    }
                    DiffItem::Remove(name, _) => message.removed_resources.push(name.to_string()),
                }
            }
        }
        Held::Told(held, _) if deltas => {
            message.incremental = true;
            let news = resources.iter().filter(|(name, resource)| {
                held.get(&***name)
                    .is_none_or(|version| *version != metadata(resource).version)
            });
            message.resources = news
                .map(|(_, resource)| Resource::clone(resource))
                .collect();
            let gone = held
                .keys()
                .filter(|name| resources.get(name.as_str()).is_none());
            message.removed_resources = gone.cloned().collect();
        }
        _ => {
            message.resources = resources.iter().map(|(_, r)| Resource::clone(r)).collect();
        }
    }
}

/// Memory of a name and a version, including overhead.
fn told_bytes((name, version): (&String, &String)) -> usize {
    name.len() + version.len() + 2 * size_of::<String>()
}

fn unchanged(a: &Arc<Resource>, b: &Arc<Resource>) -> bool {
    Arc::ptr_eq(a, b) || metadata(a).version == metadata(b).version
}
