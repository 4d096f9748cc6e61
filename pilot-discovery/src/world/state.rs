//! What the writer owns, and what it published last.

use std::sync::Arc;

use pilot_model::{builder::Builder, snapshot::Snapshot};
use pilot_networking::class::fleet::Fleet;

use super::views::Views;

/// Everything that one thread owns and pages may look at.
#[derive(Debug)]
pub struct World {
    /// Objects, as they change.
    pub builder: Builder,
    /// The state that was published last.
    pub snapshot: Arc<Snapshot>,
    /// Connected proxies and their classes.
    pub fleet: Fleet,
    /// The channels to connected proxies.
    pub views: Views,
}

/// What everybody may read without asking the writer.
#[derive(Clone, Debug, Default)]
pub struct Published {
    /// The newest snapshot.
    pub snapshot: Arc<Snapshot>,
    /// All sources had delivered when it was made: it may be served.
    pub synced: bool,
}
