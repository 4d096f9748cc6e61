//! Sources of configuration.
//!
//! A source sends [`Update`](galley_engine::update::Update)s, and `Synced` after the initial ones.
//! [`fs`] reads a directory; [`kube`] reads a cluster and sends the same kind of updates.

pub mod fs;
pub mod kube;
mod scan;
mod settle;

/// Limits of the file source.
pub mod limit {
    /// Maximum number of files; the surplus is reported and not read.
    pub const FILES: usize = 10_000;
    /// Maximum number of files whose contents are sent in one update.
    pub const BATCH_FILES: usize = 64;
}
