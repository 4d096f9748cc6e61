//! The state of the writer, and its last published part.

use std::sync::Arc;

use pilot_model::{builder::Builder, snapshot::Snapshot};
use pilot_networking::class::fleet::Fleet;

use super::views::Views;

/// The state that pages can inspect.
#[derive(Debug)]
pub struct World {
    /// Current objects.
    pub builder: Builder,
    /// The last published snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Connected proxies and their classes.
    pub fleet: Fleet,
    /// The channels to connected proxies.
    pub views: Views,
}

/// The state that other tasks can read without the writer.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The newest snapshot.
    pub snapshot: Arc<Snapshot>,
    /// Whether all sources had delivered when the snapshot was built, so that it may be served.
    pub synced: bool,
}
