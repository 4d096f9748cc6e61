//! The open streams of a source, for debug pages.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use parking_lot::Mutex;

use mesh_core::mcp::source::Progress;

/// Maximum length of the name that a sink gives itself; the rest is cut.
const MAX_NODE_BYTES: usize = 256;

/// State of an open stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConnectionStatus {
    /// Name of the gRPC service.
    pub service: &'static str,
    /// Address of the peer, empty if unknown.
    pub peer: String,
    /// Identity in its certificate, empty for plaintext.
    pub identity: String,
    /// The name that the sink gives itself.
    pub node: String,
    /// When the stream was opened.
    pub since: Instant,
    /// State by collection.
    pub collections: BTreeMap<String, Progress>,
}

/// All open streams.
#[derive(Debug, Clone, Default)]
pub struct Connections {
    streams: Arc<Mutex<BTreeMap<u64, ConnectionStatus>>>,
    last_id: Arc<AtomicU64>,
}

impl Connections {
    /// A copy of the present state, by stream id.
    pub fn list(&self) -> BTreeMap<u64, ConnectionStatus> {
        self.streams.lock().clone()
    }

    /// Number of open streams.
    pub fn len(&self) -> usize {
        self.streams.lock().len()
    }

    /// Whether no stream is open.
    pub fn is_empty(&self) -> bool {
        self.streams.lock().is_empty()
    }

    pub(super) fn open(&self, service: &'static str, peer: String, identity: String) -> Connection {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let status = ConnectionStatus {
            service,
            peer,
            identity,
            node: String::new(),
            since: Instant::now(),
            collections: BTreeMap::new(),
        };
        self.streams.lock().insert(id, status);
        Connection {
            id,
            all: self.clone(),
        }
    }
}

/// The entry of one stream, which is removed when dropped.
#[derive(Debug)]
pub(super) struct Connection {
    pub(super) id: u64,
    all: Connections,
}

impl Connection {
    pub(super) fn node(&self, node: &str) {
        let (node, _) = node.split_at(node.floor_char_boundary(MAX_NODE_BYTES));
        if let Some(status) = self.all.streams.lock().get_mut(&self.id)
            && status.node != node
        {
            node.clone_into(&mut status.node);
        }
    }

    pub(super) fn progress(&self, collection: &str, progress: &Progress) {
        if let Some(status) = self.all.streams.lock().get_mut(&self.id) {
            status
                .collections
                .insert(collection.to_owned(), progress.clone());
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        self.all.streams.lock().remove(&self.id);
    }
}
