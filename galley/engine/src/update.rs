//! Updates of a configuration source: the files that changed, never everything. In a cluster each
//! object is a "file".

use std::path::Path;
use std::sync::Arc;

use crate::content::Content;
use crate::problem::Problem;

/// The new state of a file.
#[derive(Debug)]
pub enum FileUpdate {
    /// It was read; this content replaces the former one.
    Read(Arc<Path>, Content),
    /// It exists but cannot be used: the former content stays.
    Unusable(Arc<Path>, Problem),
    /// It is gone.
    Removed(Arc<Path>),
}

/// An update from a source to the engine.
#[derive(Debug)]
pub enum Update {
    /// Files that changed.
    Files(Vec<FileUpdate>),
    /// Everything that existed at the start has been sent.
    Synced,
    /// All problems of the source as a whole; an empty list solves the former ones.
    Root(Vec<Problem>),
}
