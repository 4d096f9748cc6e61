//! The sink's side of a stream, without IO: takes messages, returns changes and replies.
//!
//! A fingerprint per resource is kept between messages and over reconnects instead of the resource:
//! enough to tell the source what is held, and to reduce every message, full or incremental, to
//! what really differs.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::hash::{DefaultHasher, Hasher};
use std::time::{Duration, Instant};

use istio_api::google::rpc::Status;
use istio_api::mcp::v1alpha1::{RequestResources, Resource, Resources, SinkNode};
use prost::Message;

use super::snapshot::metadata;

/// Delay before a collection that the source does not have is requested again.
pub const UNSUPPORTED_RETRY: Duration = Duration::from_secs(600);

/// Versions are only sent to the source while the request stays below its receive limit (1 MiB);
/// above, the source sends everything and the comparison is made here.
pub const MAX_TOLD_BYTES: usize = 900 << 10;

/// gRPC codes used in answers.
const INVALID_ARGUMENT: i32 = 3;
const UNIMPLEMENTED: i32 = 12;

/// The changes of one collection in a message.
///
/// It is always a difference: a full message is compared with what is held, so that the updater
/// never gets again what it has.
#[derive(Debug, Clone, PartialEq)]
pub struct Change {
    /// Collection name, for example `istio/networking/v1alpha3/gateways`.
    pub collection: String,
    /// Version of the collection at the source; opaque.
    pub version: String,
    /// New and changed resources, by name in ascending order; each has metadata and a body.
    pub added: Vec<Resource>,
    /// Names of deleted resources (`namespace/name`, cluster-scoped `name`), ascending.
    pub removed: Vec<String>,
    /// Whether it is the first message of this collection since the client was created. The updater
    /// gets it even if it is empty: from then on the collection counts as synced.
    pub first: bool,
}

/// An invalid resource, which is not part of a change. An earlier one of the same name stays.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dropped {
    /// Collection name.
    pub collection: String,
    /// Resource name; empty if it has none.
    pub name: String,
    /// Why it is invalid.
    pub reason: String,
}

/// The result of a message.
#[derive(Debug)]
pub struct Received {
    /// Invalid resources; the rest is applied without them.
    pub dropped: Vec<Dropped>,
    /// What to do next.
    pub step: Step,
}

/// What to do with a message.
#[derive(Debug)]
pub enum Step {
    /// Send this reply.
    Reply(RequestResources),
    /// Apply the change, then send the reply of [`Machine::commit`].
    Apply(Change, Commit),
}

/// What will be held once a change is applied.
#[derive(Debug)]
pub struct Commit {
    collection: String,
    version: String,
    nonce: String,
    upserts: Vec<(String, Fingerprint)>,
    removed: Vec<String>,
}

#[derive(Debug, Clone, PartialEq, Eq)]
struct Fingerprint {
    version: String,
    /// Hash of everything except for the version: detects a source that was restarted and counts
    /// versions from the beginning.
    /// beginning.
    content: u64,
}

#[derive(Debug, Default)]
struct Held {
    resources: BTreeMap<String, Fingerprint>,
    version: String,
    synced: bool,
    error: Option<String>,
    /// The source does not have it: not requested again before this time.
    unsupported: Option<Instant>,
    /// Whether the last source did not have it; what is held stays, and readiness does not wait for
    /// it.
    lacking: bool,
}

impl Held {
    fn is_settled(&self) -> bool {
        self.synced || self.lacking
    }
}

/// State of one collection, for readiness and debug pages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CollectionStatus {
    /// The version that was last applied.
    pub version: String,
    /// Number of resources held.
    pub count: usize,
    /// Whether a message was applied, or the source does not have the collection.
    pub synced: bool,
    /// Whether the source rejected the collection.
    pub unsupported: bool,
    /// Why we rejected the last message.
    pub error: Option<String>,
}

/// When to reconnect after a stream has ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reconnect {
    /// At once: the cause is removed.
    Now,
    /// After the back-off.
    Later,
}

/// The sink's state over all its streams.
#[derive(Debug)]
pub struct Machine {
    node: SinkNode,
    incremental: bool,
    held: BTreeMap<String, Held>,
}

impl Machine {
    /// `node`: our id, which the source shows. `incremental`: request deltas.
    pub fn new(
        node: &str,
        collections: impl IntoIterator<Item = String>,
        incremental: bool,
    ) -> Self {
        Self {
            node: SinkNode {
                id: node.to_owned(),
                annotations: BTreeMap::new(),
            },
            incremental,
            held: collections
                .into_iter()
                .map(|name| (name, Held::default()))
                .collect(),
        }
    }

    /// The requests that open a stream: one per collection, with what is held of it.
    pub fn open(&mut self, now: Instant) -> Vec<RequestResources> {
        let mut requests = Vec::with_capacity(self.held.len());
        for (collection, held) in &mut self.held {
            if held.unsupported.is_some_and(|until| now < until) {
                continue;
            }
            held.unsupported = None;
            let mut request = RequestResources {
                sink_node: Some(self.node.clone()),
                collection: collection.clone(),
                incremental: self.incremental,
                ..RequestResources::default()
            };
            if self.incremental && held.synced {
                let versions = held.resources.iter();
                let bytes =
                    |(n, print): (&String, &Fingerprint)| n.len() + print.version.len() + 12;
                if versions.clone().map(bytes).sum::<usize>() <= MAX_TOLD_BYTES {
                    let told = versions.map(|(n, print)| (n.clone(), print.version.clone()));
                    request.initial_resource_versions = told.collect();
                }
            }
            requests.push(request);
        }
        requests
    }

    /// Handles a message. A change without differences is acknowledged and not applied.
    pub fn receive(&mut self, message: Resources) -> Received {
        let Some(held) = self.held.get(&message.collection) else {
            let text = format!("unsupported collection {}", message.collection);
            let name = &message.collection;
            let reply = self.refusal(name, message.nonce, UNIMPLEMENTED, text);
            return Received {
                dropped: Vec::new(),
                step: Step::Reply(reply),
            };
        };
        let Resources {
            system_version_info,
            collection,
            resources,
            nonce,
            ..
        } = message;
        let mut commit = Commit {
            collection: collection.clone(),
            version: system_version_info,
            nonce,
            upserts: Vec::new(),
            removed: Vec::new(),
        };
        let mut dropped = Vec::new();
        // Names of all resources in the message, valid or not: a full message must not remove the
        // last good state of an invalid one.
        let mut named = BTreeSet::new();
        let mut added = BTreeMap::new();
        for resource in resources {
            let name = metadata(&resource).name.clone();
            if let Err(reason) = check(&collection, &resource) {
                let (collection, name) = (collection.clone(), name.clone());
                dropped.push(Dropped {
                    collection,
                    name,
                    reason,
                });
            } else {
                let print = fingerprint(&resource);
                if held.resources.get(&name) == Some(&print) {
                    added.remove(&name);
                } else {
                    added.insert(name.clone(), (resource, print));
                }
            }
            named.insert(name);
        }
        commit.removed = if message.incremental {
            let mut gone: Vec<_> = message.removed_resources;
            gone.retain(|name| held.resources.contains_key(name) && !named.contains(name));
            gone.sort();
            gone.dedup();
            gone
        } else {
            held.resources
                .keys()
                .filter(|name| !named.contains(*name))
                .cloned()
                .collect()
        };
        let first = !held.synced;
        let mut resources = Vec::with_capacity(added.len());
        for (name, (resource, print)) in added {
            resources.push(resource);
            commit.upserts.push((name, print));
        }
        if resources.is_empty() && commit.removed.is_empty() && !first {
            let step = Step::Reply(self.commit(commit, Ok(())));
            return Received { dropped, step };
        }
        let change = Change {
            collection,
            version: commit.version.clone(),
            added: resources,
            removed: commit.removed.clone(),
            first,
        };
        Received {
            dropped,
            step: Step::Apply(change, commit),
        }
    }

    /// Records the result of a change and returns the reply to the source.
    pub fn commit(&mut self, commit: Commit, applied: Result<(), String>) -> RequestResources {
        let Commit {
            collection,
            version,
            nonce,
            upserts,
            removed,
            ..
        } = commit;
        match applied {
            Err(reason) => {
                if let Some(held) = self.held.get_mut(&collection) {
                    held.error = Some(reason.clone());
                }
                self.refusal(&collection, nonce, INVALID_ARGUMENT, reason)
            }
            Ok(()) => {
                if let Some(held) = self.held.get_mut(&collection) {
                    for name in removed {
                        held.resources.remove(&name);
                    }
                    held.resources.extend(upserts);
                    held.version = version;
                    held.synced = true;
                    held.error = None;
                    held.unsupported = None;
                    held.lacking = false;
                }
                self.answer(&collection, nonce)
            }
        }
    }

    fn answer(&self, collection: &str, nonce: String) -> RequestResources {
        RequestResources {
            sink_node: Some(self.node.clone()),
            collection: collection.to_owned(),
            response_nonce: nonce,
            incremental: self.incremental,
            ..RequestResources::default()
        }
    }

    fn refusal(
        &self,
        collection: &str,
        nonce: String,
        code: i32,
        message: String,
    ) -> RequestResources {
        let error_detail = Some(Status {
            code,
            message,
            details: Vec::new(),
        });
        RequestResources {
            error_detail,
            ..self.answer(collection, nonce)
        }
    }

    /// Handles the end of a stream. If a source rejects a collection (galley 1.1 then ends the
    /// whole stream), the others are requested at once; the rejected one counts as synced. It is
    /// requested again after [`UNSUPPORTED_RETRY`], and on the stream after any other end.
    pub fn closed(&mut self, message: &str, now: Instant) -> Reconnect {
        let name = message
            .split_once("unsupported collection ")
            .and_then(|(_, rest)| rest.trim_start_matches('"').split(['"', ' ']).next());
        if let Some(held) = name.and_then(|name| self.held.get_mut(name)) {
            if held.unsupported.is_some() {
                return Reconnect::Later;
            }
            held.unsupported = Some(now + UNSUPPORTED_RETRY);
            held.lacking = true;
            return Reconnect::Now;
        }
        // The next stream may lead to another source, or to a newer version.
        for held in self.held.values_mut() {
            held.unsupported = held.unsupported.map(|_| now);
        }
        Reconnect::Later
    }

    /// When a collection that the source does not have may be requested again.
    pub fn retry_at(&self) -> Option<Instant> {
        self.held.values().filter_map(|held| held.unsupported).min()
    }

    /// Collections without an applied message, ascending.
    pub fn missing(&self) -> Vec<String> {
        let missing = self.held.iter().filter(|(_, held)| !held.is_settled());
        missing.map(|(name, _)| name.clone()).collect()
    }

    /// The state of every collection.
    pub fn status(&self) -> BTreeMap<String, CollectionStatus> {
        let row = |held: &Held| CollectionStatus {
            version: held.version.clone(),
            count: held.resources.len(),
            synced: held.is_settled(),
            unsupported: held.lacking,
            error: held.error.clone(),
        };
        self.held
            .iter()
            .map(|(name, held)| (name.clone(), row(held)))
            .collect()
    }

    /// Names and versions of the resources held in a collection.
    pub fn versions(&self, collection: &str) -> BTreeMap<String, String> {
        let Some(held) = self.held.get(collection) else {
            return BTreeMap::new();
        };
        held.resources
            .iter()
            .map(|(n, print)| (n.clone(), print.version.clone()))
            .collect()
    }

    /// Adds a collection; it is requested on the next stream.
    pub fn add(&mut self, collection: &str) {
        if let Entry::Vacant(slot) = self.held.entry(collection.to_owned()) {
            slot.insert(Held::default());
        }
    }
}

/// Whether a resource is valid: it has a name and a body. A configuration resource is named like
/// its object and has the message of its collection.
fn check(collection: &str, resource: &Resource) -> Result<(), String> {
    let Some(metadata) = &resource.metadata else {
        return Err("the resource has no metadata".into());
    };
    let known = istio_api::collections::by_name(collection);
    let name = &metadata.name;
    let mut parts = name.split('/');
    let (a, b, more) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
    let is_of_object = !a.is_empty() && b != Some("") && more.is_none();
    if name.is_empty() || (known.is_some() && !is_of_object) {
        return Err(format!(
            "the name {name:?} is not valid: want \"namespace/name\" or \"name\""
        ));
    }
    let Some(body) = &resource.body else {
        return Err("the resource has no body".into());
    };
    let Some(known) = known else {
        return Ok(());
    };
    let wanted = known.type_url();
    if body.type_url == wanted {
        Ok(())
    } else {
        Err(format!(
            "the body is a {:?}: want {wanted:?}",
            body.type_url
        ))
    }
}

fn fingerprint(resource: &Resource) -> Fingerprint {
    let metadata = metadata(resource);
    let mut hasher = DefaultHasher::new();
    let mut field = |bytes: &[u8]| {
        hasher.write_usize(bytes.len());
        hasher.write(bytes);
    };
    for map in [&metadata.labels, &metadata.annotations] {
        field(&map.len().to_le_bytes());
        for (key, value) in map {
            field(key.as_bytes());
            field(value.as_bytes());
        }
    }
    if let Some(time) = &metadata.create_time {
        field(&time.encode_to_vec());
    }
    if let Some(body) = &resource.body {
        field(body.type_url.as_bytes());
        field(&body.value);
    }
    Fingerprint {
        version: metadata.version.clone(),
        content: hasher.finish(),
    }
}
