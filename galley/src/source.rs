//! Where configuration comes from.
//!
//! A source sends [`Update`]s: what was read of the files that changed, never everything. The
//! first ones are followed by [`Update::Synced`]. [`fs`] reads a directory; [`kube`] reads a
//! cluster and sends the same updates, with one "file" per object.

pub mod content;
pub mod fs;
pub mod kube;
mod scan;
mod settle;

use std::path::Path;
use std::sync::Arc;

pub use content::Content;

use crate::problem::Problem;

/// Limits of the file source.
pub mod limit {
    /// A larger file is refused, in bytes.
    pub const FILE_BYTES: u64 = 16 << 20;
    /// A larger document of a file is refused, in bytes. (etcd takes objects of 1.5 MiB.)
    pub const DOCUMENT_BYTES: usize = 4 << 20;
    /// More files than this are an error, and the surplus is not read.
    pub const FILES: usize = 10_000;
    /// Files read before their contents are handed on together.
    pub const BATCH_FILES: usize = 64;
    /// Problems kept of one file.
    pub const PROBLEMS: usize = 100;
}

/// What became of one file.
#[derive(Debug)]
pub enum FileUpdate {
    /// It was read; what it holds replaces what it held.
    Read(Arc<Path>, Content),
    /// It is there and cannot be used: what it held stays.
    Unusable(Arc<Path>, Problem),
    /// It is gone.
    Removed(Arc<Path>),
}

/// From a source to the one task that keeps the state.
#[derive(Debug)]
pub enum Update {
    /// Files that changed.
    Files(Vec<FileUpdate>),
    /// Everything that was there at the start has been sent.
    Synced,
    /// Problems of the source as a whole, all of them; empty when there are none any more.
    Root(Vec<Problem>),
}
