//! A value made from files that is kept up to date. An invalid file never replaces a valid value.

use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;

use super::{Error, files};
use crate::drain;
use crate::fswatch::{self, Changes, WatchDied};

/// How long files must be unchanged before they are read.
const DEBOUNCE: Duration = Duration::from_millis(100);

/// Results of reloading the files.
#[derive(Clone, Debug, Default)]
pub struct Status {
    /// Number of reloads, without the first load.
    pub reloads: u64,
    /// Number of times that changed files were rejected.
    pub failures: u64,
    /// Why the present files are rejected; `None` if they are in use.
    pub last_error: Option<String>,
    /// Expiry of the own certificate in use; `None` without one.
    pub not_after: Option<SystemTime>,
}

/// Creates a `T` from files, with the expiry of the own certificate.
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

    /// Reads the files if their contents differ from those in use. Returns true if a new value is
    /// used.
    ///
    /// Rejected contents are read again at the next call: the files may have been read while they
    /// were replaced one by one.
    pub(super) fn reload(&self) -> bool {
        let mut used = self.used.lock();
        let found = digest(&self.files);
        if *used == found {
            return false;
        }
        match (self.load)() {
            // If files change while they are read, the event of that change causes another read.
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
                tracing::warn!(
                    error = %error,
                    "rejected changed certificates; the old ones stay in use"
                );
                self.status.send_modify(|status| {
                    status.failures += 1;
                    status.last_error = Some(error.to_string());
                });
                false
            }
        }
    }

    /// Follows the files until the drain begins.
    pub(super) async fn follow(self: Arc<Self>, drain: drain::Watch) -> Result<(), WatchDied> {
        let changes = fswatch::watch(self.files.clone(), DEBOUNCE);
        self.apply(changes, drain).await
    }

    async fn apply(&self, mut changes: Changes, drain: drain::Watch) -> Result<(), WatchDied> {
        let end = drain.signaled();
        tokio::pin!(end);
        // Apply changes between loading and watching.
        self.reload();
        loop {
            tokio::select! {
                () = &mut end => return Ok(()),
                change = changes.next() => change?,
            }
            self.reload();
        }
    }
}

/// Digest of the contents, or of the fact that a file cannot be read. Only compared within one
/// process, so that the hash need not be stable.
fn digest(paths: &[PathBuf]) -> u64 {
    let mut hasher = DefaultHasher::new();
    for path in paths {
        files::read(path).ok().hash(&mut hasher);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn files_that_are_no_longer_watched_are_an_error() {
        let reloading = Reloading::fixed(Arc::new(()), None);
        let (trigger, drain) = drain::channel();
        let (sender, receiver) = tokio::sync::mpsc::channel(1);
        drop(sender);
        let ended = reloading.apply(receiver.into(), drain.clone()).await;
        assert_eq!(ended, Err(WatchDied));

        let (_sender, receiver) = tokio::sync::mpsc::channel(1);
        trigger.signal();
        assert_eq!(reloading.apply(receiver.into(), drain).await, Ok(()));
    }
}
