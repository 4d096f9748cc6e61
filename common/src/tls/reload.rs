//! A value made from files, kept up to date. A bad file never replaces a good value.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Error, files};
use crate::{drain, fswatch};

/// How long files must be quiet before they are read.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// What became of the files.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Times that new contents were taken, without the first.
    pub reloads: u64,
    /// Times that changed files were refused.
    pub failures: u64,
    /// Why the files as they are now are refused; `None` when they are in use.
    pub last_error: Option<String>,
    /// When the own certificate in use ends; `None` without one.
    pub not_after: Option<SystemTime>,
}

/// Makes a `T` from files, with the end of the own certificate.
pub(super) type Load<T> = dyn Fn() -> Result<(Arc<T>, Option<SystemTime>), Error> + Send + Sync;

pub(super) struct Reloading<T> {
    current: ArcSwap<T>,
    files: Vec<PathBuf>,
    load: Box<Load<T>>,
    /// Digest of the files that `current` was made from.
    used: parking_lot::Mutex<u64>,
    status: watch::Sender<Status>,
}

impl<T> std::fmt::Debug for Reloading<T> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Reloading")
            .field("files", &self.files)
            .field("status", &*self.status.borrow())
            .finish_non_exhaustive()
    }
}

impl<T: Send + Sync + 'static> Reloading<T> {
    pub(super) fn new(files: Vec<PathBuf>, load: Box<Load<T>>) -> Result<Self, Error> {
        let used = digest(&files);
        let (first, not_after) = load()?;
        let status = Status {
            not_after,
            ..Status::default()
        };
        Ok(Self {
            current: ArcSwap::new(first),
            files,
            load,
            used: parking_lot::Mutex::new(used),
            status: watch::Sender::new(status),
        })
    }

    /// A value that does not come from files.
    pub(super) fn fixed(value: Arc<T>, not_after: Option<SystemTime>) -> Self {
        let status = Status {
            not_after,
            ..Status::default()
        };
        let same = Arc::clone(&value);
        Self {
            current: ArcSwap::new(value),
            files: Vec::new(),
            load: Box::new(move || Ok((Arc::clone(&same), not_after))),
            used: parking_lot::Mutex::new(digest(&[])),
            status: watch::Sender::new(status),
        }
    }

    pub(super) fn current(&self) -> Arc<T> {
        self.current.load_full()
    }

    pub(super) fn replace(&self, value: Arc<T>, not_after: Option<SystemTime>) {
        self.current.store(value);
        self.status.send_modify(|status| {
            status.reloads += 1;
            status.not_after = not_after;
        });
    }

    pub(super) fn status(&self) -> watch::Receiver<Status> {
        self.status.subscribe()
    }

    /// Reads the files if their contents differ from those in use. True if a new value is used.
    ///
    /// Refused contents are looked at again at the next call: files that are replaced one by one
    /// may have been read between two of them.
    pub(super) fn reload(&self) -> bool {
        let mut used = self.used.lock();
        let found = digest(&self.files);
        if *used == found {
            return false;
        }
        match (self.load)() {
            // Files that changed under the reader are read again at the event of that change.
            Ok((value, not_after)) => {
                tracing::info!(files = ?self.files, "certificates reloaded");
                *used = found;
                self.current.store(value);
                self.status.send_modify(|status| {
                    status.reloads += 1;
                    status.last_error = None;
                    status.not_after = not_after;
                });
                true
            }
            Err(error) => {
                tracing::warn!(error = %error, "changed certificates refused, the old ones stay in use");
                self.status.send_modify(|status| {
                    status.failures += 1;
                    status.last_error = Some(error.to_string());
                });
                false
            }
        }
    }

    /// Follows the files until the drain begins.
    pub(super) fn follow(self: Arc<Self>, drain: &drain::Watch) {
        let mut changes = fswatch::watch(self.files.clone(), DEBOUNCE);
        let end = drain.signaled();
        tokio::spawn(async move {
            tokio::pin!(end);
            // What changed between loading and watching.
            self.reload();
            loop {
                tokio::select! {
                    () = &mut end => return,
                    change = changes.recv() => match change {
                        Some(()) => { self.reload(); }
                        None => return,
                    },
                }
            }
        });
    }
}

/// Digest of the contents; a file that cannot be read counts as such. Only tells changes apart
/// within one process, so that no stable hash is needed.
fn digest(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        files::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}
