//! Open streams, for the status pages.

use pilot_networking::kind::Kind;
use pilot_xds::stream::{Stream, Variant};
use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use pilot_model::proxy::Proxy;

/// State of one type on one stream.
#[derive(Clone, Debug, Default)]
pub struct TypeStatus {
    pub sent: String,
    pub acked: String,
    pub error: Option<String>,
    pub names: usize,
}

/// What of one type a proxy took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Version of the newest view of which it took everything; `None` before the first.
    pub version: Option<u64>,
    /// It refused the last response.
    pub refused: bool,
}

/// One stream as pages show it.
#[derive(Clone, Debug)]
pub struct Status {
    pub connection: String,
    pub address: String,
    pub connected: SystemTime,
    pub variant: Variant,
    pub proxy: Arc<Proxy>,
    /// Per [`Kind`], `None` when it is not subscribed to.
    pub types: [Option<TypeStatus>; Kind::COUNT],
    /// Per [`Kind`].
    pub taken: [Taken; Kind::COUNT],
}

/// All open streams. Each has a lock of its own, so that a page which shows thousands of them
/// holds up none for longer than it takes to copy that one.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    streams: Arc<Mutex<BTreeMap<u64, Arc<Mutex<Status>>>>>,
}

impl Registry {
    /// A copy of every status, each consistent in itself.
    pub fn list(&self) -> Vec<Status> {
        let streams: Vec<_> = self.streams.lock().values().cloned().collect();
        streams.iter().map(|status| status.lock().clone()).collect()
    }

    /// What the proxy of a stream took, per [`Kind`]; `None` if there is no such stream.
    pub fn taken(&self, id: u64) -> Option<[Taken; Kind::COUNT]> {
        let status = self.streams.lock().get(&id).cloned()?;
        let taken = status.lock().taken;
        Some(taken)
    }

    /// What the proxies of all streams took: per [`Kind`] the version of the newest view of which
    /// they took everything.
    pub fn all_taken(&self) -> BTreeMap<u64, [Option<u64>; Kind::COUNT]> {
        let streams: Vec<_> = {
            let streams = self.streams.lock();
            streams.iter().map(|(id, one)| (*id, one.clone())).collect()
        };
        let taken = streams.into_iter();
        taken
            .map(|(id, status)| (id, status.lock().taken.map(|taken| taken.version)))
            .collect()
    }

    pub fn len(&self) -> usize {
        self.streams.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows a stream until the result is dropped.
    pub fn enter(&self, id: u64, status: Status) -> Entry {
        let status = Arc::new(Mutex::new(status));
        self.streams.lock().insert(id, status.clone());
        Entry {
            id,
            status,
            registry: self.clone(),
        }
    }
}

/// A stream in the registry.
#[derive(Debug)]
pub struct Entry {
    id: u64,
    status: Arc<Mutex<Status>>,
    registry: Registry,
}

impl Entry {
    /// Takes over what the stream sent and what was acknowledged.
    pub fn update(&self, stream: &Stream) {
        let mut status = self.status.lock();
        for (kind, taken) in Kind::ALL.into_iter().zip(&mut status.taken) {
            taken.refused = stream
                .watch(kind)
                .is_some_and(|watch| watch.error.is_some());
            taken.version = taken.version.max(stream.taken(kind));
        }
        for (kind, slot) in Kind::ALL.into_iter().zip(&mut status.types) {
            let Some(watch) = stream.watch(kind) else {
                *slot = None;
                continue;
            };
            let shown = slot.get_or_insert_default();
            shown.sent.clone_from(&watch.nonce);
            shown.acked.clone_from(&watch.acked);
            shown.error.clone_from(&watch.error);
            shown.names = watch.names.len();
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.streams.lock().remove(&self.id);
    }
}
