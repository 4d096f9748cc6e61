//! What a source of configuration says: what was read of the files that changed, never everything.
//! In a cluster each object is a "file".

use std::path::Path;
use std::sync::Arc;

use crate::content::Content;
use crate::problem::Problem;

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

/// From a source to the engine.
#[derive(Debug)]
pub enum Update {
    /// Files that changed.
    Files(Vec<FileUpdate>),
    /// Everything that was there at the start has been sent.
    Synced,
    /// Problems of the source as a whole, all of them; empty when there are none any more.
    Root(Vec<Problem>),
}
