//! Open streams, for the status pages.

use std::{collections::BTreeMap, sync::Arc, time::SystemTime};

use parking_lot::Mutex;
use pilot_model::proxy::Proxy;

use super::{
    kind::Kind,
    stream::{Stream, Variant},
};

/// State of one type on one stream.
#[derive(Clone, Debug, Default)]
pub struct TypeStatus {
    pub sent: String,
    pub acked: String,
    pub error: Option<String>,
    pub names: usize,
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
    pub types: [Option<TypeStatus>; Kind::ALL.len()],
}

/// All open streams.
#[derive(Clone, Debug, Default)]
pub struct Registry {
    streams: Arc<Mutex<BTreeMap<u64, Status>>>,
}

impl Registry {
    pub fn list(&self) -> Vec<Status> {
        self.streams.lock().values().cloned().collect()
    }

    pub fn len(&self) -> usize {
        self.streams.lock().len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Shows a stream until the result is dropped.
    pub fn enter(&self, id: u64, status: Status) -> Entry {
        self.streams.lock().insert(id, status);
        Entry {
            id,
            registry: self.clone(),
        }
    }
}

/// A stream in the registry.
#[derive(Debug)]
pub struct Entry {
    id: u64,
    registry: Registry,
}

impl Entry {
    /// Takes over what the stream sent and what was acknowledged.
    pub fn update(&self, stream: &Stream) {
        let mut streams = self.registry.streams.lock();
        let Some(status) = streams.get_mut(&self.id) else {
            return;
        };
        for (kind, slot) in Kind::ALL.into_iter().zip(&mut status.types) {
            *slot = stream.watch(kind).map(|watch| TypeStatus {
                sent: watch.nonce.clone(),
                acked: watch.acked.clone(),
                error: watch.error.clone(),
                names: watch.names.len(),
            });
        }
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        self.registry.streams.lock().remove(&self.id);
    }
}
