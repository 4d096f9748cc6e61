//! An encoded resource and the configuration that it was built from.

use std::sync::Arc;

use bytes::Bytes;
use pilot_model::config::ConfigRef;
use xxhash_rust::xxh3::xxh3_64;

/// One Envoy resource, encoded once and shared by all proxies that it is sent to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Resource {
    /// Name on the wire.
    pub name: Arc<str>,
    /// Hash of `body`: equal versions mean equal bytes, in every process.
    pub version: u64,
    /// The encoded message, without the `Any` around it.
    pub body: Bytes,
    /// Configuration that it was built from, sorted; never on the wire.
    pub sources: Arc<[ConfigRef]>,
}

impl Resource {
    /// Encodes `message`.
    pub fn new<T: prost::Message>(
        name: impl Into<Arc<str>>,
        message: &T,
        sources: impl Into<Arc<[ConfigRef]>>,
    ) -> Self {
        Self::from_bytes(name, message.encode_to_vec().into(), sources)
    }

    /// Uses bytes that are an encoded message already.
    pub fn from_bytes(
        name: impl Into<Arc<str>>,
        body: Bytes,
        sources: impl Into<Arc<[ConfigRef]>>,
    ) -> Self {
        Self {
            name: name.into(),
            version: xxh3_64(&body),
            body,
            sources: sources.into(),
        }
    }
}

/// Something that a generator left out, and why. Counted and shown; never stops the others.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Skipped {
    /// Metric that counts it, e.g. `pilot_conflict_outbound_listener_tcp_over_current_tcp`.
    pub metric: &'static str,
    /// What was left out, and what would be right.
    pub reason: String,
    /// The object to correct, if any.
    pub source: Option<ConfigRef>,
}

/// What a generator built and left out.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Built {
    /// What was built.
    pub resources: Vec<Resource>,
    /// What was left out, and why.
    pub skipped: Vec<Skipped>,
}

/// Sorts references and removes duplicates, as the sources of a resource need it.
pub fn sources(refs: impl IntoIterator<Item = ConfigRef>) -> Arc<[ConfigRef]> {
    let mut refs: Vec<ConfigRef> = refs.into_iter().collect();
    refs.sort();
    refs.dedup();
    refs.into()
}
