//! Open streams, for the debug pages.

use pilot_networking::kind::Kind;
use pilot_xds::stream::{Stream, Variant};
use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use pilot_model::proxy::Proxy;

/// Status of one type on one stream.
#[derive(Clone, Debug, Default)]
pub struct TypeStatus {
    pub sent: String,
    pub acked: String,
    pub error: Option<String>,
    pub names: usize,
}

/// What a proxy accepted of one type.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Version of the newest view of which it accepted everything; `None` before the first.
    pub version: Option<u64>,
    /// Whether it rejected the last response.
    pub refused: bool,
}

/// Status of one stream.
#[derive(Clone, Debug)]
pub struct Status {
    pub connection: String,
    pub address: String,
    pub connected: SystemTime,
    pub variant: Variant,
    pub proxy: Arc<Proxy>,
    /// By [`Kind`]; `None` without a subscription.
    pub types: [Option<TypeStatus>; Kind::COUNT],
    /// By [`Kind`].
    pub taken: [Taken; Kind::COUNT],
}

/// All open streams. Each has its own lock, so that a page with thousands of them blocks each only
/// while its status is copied.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    streams: Arc<Mutex<BTreeMap<u64, Arc<Mutex<Status>>>>>,
}

impl Registry {
    /// A copy of every status; each is consistent in itself.
    pub fn list(&self) -> Vec<Status> {
        let streams: Vec<_> = self.streams.lock().values().cloned().collect();
        streams.iter().map(|status| status.lock().clone()).collect()
    }

    /// What the proxy of a stream accepted, by [`Kind`]; `None` if there is no such stream.
    pub fn taken(&self, id: u64) -> Option<[Taken; Kind::COUNT]> {
        let status = self.streams.lock().get(&id).cloned()?;
        let taken = status.lock().taken;
        Some(taken)
    }

    /// What the proxies of all streams accepted: by [`Kind`] the version of the newest view of
    /// which they accepted everything.
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

    /// Registers a stream until the result is dropped.
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
    /// Updates the status with what was sent and acknowledged on the stream.
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
