//! Where configuration comes from.
//!
//! A source sends [`Update`](galley_engine::update::Update)s; the first ones are followed by
//! `Synced`. [`fs`] reads a directory; [`kube`] reads a cluster and sends the same updates.

pub mod fs;
pub mod kube;
mod scan;
mod settle;

/// Limits of the file source.
pub mod limit {
    /// More files than this are an error, and the surplus is not read.
    pub const FILES: usize = 10_000;
    /// Files read before their contents are handed on together.
    pub const BATCH_FILES: usize = 64;
}
