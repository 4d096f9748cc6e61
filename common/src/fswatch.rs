//! Signals when files may have changed, also when they are replaced through symbolic links.
//!
//! Kubernetes updates a mounted volume by swapping a link beside the files, and editors rename
//! files; both are events in a directory. So directories are watched: those of the given paths and,
//! where links lead elsewhere, those of their targets. A signal is only a hint; receivers compare
//! contents. It is also sent every minute, as some volumes have no events.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use tokio::time::{Instant, MissedTickBehavior};

mod changes;
mod files;

pub use changes::{Changes, WatchDied};
pub use files::{Changed, watch_files};

/// Interval of signals without an event.
const POLL: Duration = Duration::from_secs(60);

/// The interval when the system has no more watches.
const POLL_WITHOUT_EVENTS: Duration = Duration::from_secs(5);

/// Watches files and directories (recursively), which need not exist yet. After a change, a signal
/// is sent when nothing has happened for `debounce`, at the latest after ten times that. Signals
/// that have not been received are merged.
///
/// Must be called in a tokio runtime.
pub fn watch(paths: Vec<PathBuf>, debounce: Duration) -> Changes {
    let (signal_tx, signal_rx) = mpsc::channel(1);
    let (event_tx, event_rx) = mpsc::channel(1);
    let watched = Watched::new(paths, move |event| {
        // Reading files causes events as well, which are not of interest.
        let relevant = event.map_or(true, |event| !matches!(event.kind, EventKind::Access(_)));
        if relevant {
            // A full channel means that an earlier event is still waiting.
            let _ = event_tx.try_send(());
        }
    });
    tokio::spawn(run(watched, debounce, event_rx, signal_tx));
    signal_rx.into()
}

async fn run(
    mut watched: Watched,
    debounce: Duration,
    mut events: mpsc::Receiver<()>,
    signal: mpsc::Sender<()>,
) {
    let period = if watched.has_events() {
        POLL
    } else {
        POLL_WITHOUT_EVENTS
    };
    let mut poll = tokio::time::interval_at(Instant::now() + period, period);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    // Without a watcher the channel is closed, which must not be taken for events.
    let has_events = watched.has_events();
    loop {
        tokio::select! {
            () = signal.closed() => return,
            _ = poll.tick() => {}
            Some(()) = events.recv(), if has_events => {
                settle(&mut events, debounce).await;
            }
        }
        watched.refresh();
        // A full channel means that an earlier signal is still waiting.
        let _ = signal.try_send(());
    }
}

/// Returns when there was no event for `quiet`, at the latest after ten times that.
async fn settle(events: &mut mpsc::Receiver<()>, quiet: Duration) {
    let end = Instant::now() + quiet * 10;
    while Instant::now() < end {
        match tokio::time::timeout(quiet, events.recv()).await {
            Ok(Some(())) => {}
            Ok(None) | Err(_) => return,
        }
    }
}

struct Watched {
    paths: Vec<PathBuf>,
    watcher: Option<RecommendedWatcher>,
    current: BTreeSet<PathBuf>,
}

impl Watched {
    /// Starts watching at once: later changes are not missed.
    fn new(
        paths: Vec<PathBuf>,
        on_event: impl FnMut(notify::Result<notify::Event>) + Send + 'static,
    ) -> Self {
        let watcher = match notify::recommended_watcher(on_event) {
            Ok(watcher) => Some(watcher),
            Err(error) => {
                tracing::warn!(error = %error, "cannot watch files for events; polling them");
                None
            }
        };
        let mut watched = Self {
            paths,
            watcher,
            current: BTreeSet::new(),
        };
        watched.refresh();
        watched
    }

    fn has_events(&self) -> bool {
        self.watcher.is_some()
    }

    /// Resolves links again and updates the watches accordingly.
    fn refresh(&mut self) {
        let Some(watcher) = &mut self.watcher else {
            return;
        };
        let wanted: BTreeSet<PathBuf> = self.paths.iter().flat_map(|path| places(path)).collect();
        for gone in self.current.difference(&wanted) {
            // The system removes watches of deleted directories itself; then this fails.
            let _ = watcher.unwatch(gone);
        }
        // A directory that was deleted and created again needs a new watch under its old name;
        // adding one again is harmless.
        self.current = wanted
            .into_iter()
            .filter(|place| {
                watcher
                    .watch(place, RecursiveMode::NonRecursive)
                    .inspect_err(|error| tracing::debug!(path = %place.display(), error = %error, "cannot watch"))
                    .is_ok()
            })
            .collect();
    }
}

/// Directories whose events may affect `path`.
fn places(path: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    let target = path.canonicalize();
    for path in std::iter::once(path).chain(target.as_deref().ok()) {
        if let Some(parent) = path.parent() {
            out.extend(nearest(parent));
        }
    }
    if let Ok(target) = target
        && target.is_dir()
    {
        add_tree(&target, &mut out);
    }
    out
}

/// The directory, or its closest existing ancestor.
fn nearest(path: &Path) -> Option<PathBuf> {
    let path = if path.as_os_str().is_empty() {
        Path::new(".")
    } else {
        path
    };
    path.ancestors()
        .find(|path| path.is_dir())
        .map(Path::to_path_buf)
}

/// Maximum depth of directories that are watched; links inside are not followed.
const MAX_DEPTH: usize = 16;

fn add_tree(root: &Path, out: &mut Vec<PathBuf>) {
    let mut left = vec![(root.to_path_buf(), 0)];
    while let Some((directory, depth)) = left.pop() {
        if depth < MAX_DEPTH
            && let Ok(entries) = directory.read_dir()
        {
            for entry in entries.flatten() {
                if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                    left.push((entry.path(), depth + 1));
                }
            }
        }
        out.push(directory);
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const QUIET: Duration = Duration::from_millis(10);
    const LIMIT: Duration = Duration::from_secs(20);

    async fn signaled(changes: &mut Changes) {
        tokio::time::timeout(LIMIT, changes.next())
            .await
            .unwrap()
            .unwrap();
    }

    #[tokio::test]
    async fn sees_a_file_that_appears_and_changes() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("later/config.yaml");
        let mut changes = watch(vec![file.clone()], QUIET);
        fs::create_dir(dir.path().join("later")).unwrap();
        signaled(&mut changes).await;
        fs::write(&file, "a").unwrap();
        signaled(&mut changes).await;
        fs::write(dir.path().join("later/tmp"), "b").unwrap();
        fs::rename(dir.path().join("later/tmp"), &file).unwrap();
        signaled(&mut changes).await;
    }

    #[tokio::test]
    async fn sees_the_swap_of_a_mounted_volume() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["..1", "..2"] {
            fs::create_dir(dir.path().join(version)).unwrap();
            fs::write(dir.path().join(version).join("cert.pem"), version).unwrap();
        }
        symlink("..1", dir.path().join("..data")).unwrap();
        symlink("..data/cert.pem", dir.path().join("cert.pem")).unwrap();
        let file = dir.path().join("cert.pem");
        let mut changes = watch(vec![file.clone()], QUIET);
        symlink("..2", dir.path().join("..tmp")).unwrap();
        fs::rename(dir.path().join("..tmp"), dir.path().join("..data")).unwrap();
        signaled(&mut changes).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), "..2");
    }

    #[tokio::test]
    async fn sees_a_link_that_leads_elsewhere() {
        let (dir, elsewhere) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let target = elsewhere.path().join("real.pem");
        fs::write(&target, "1").unwrap();
        symlink(&target, dir.path().join("cert.pem")).unwrap();
        let mut changes = watch(vec![dir.path().join("cert.pem")], QUIET);
        fs::write(&target, "2").unwrap();
        signaled(&mut changes).await;
    }

    #[tokio::test]
    async fn sees_a_new_directory_of_a_tree() {
        let dir = tempfile::tempdir().unwrap();
        let mut changes = watch(vec![dir.path().to_path_buf()], QUIET);
        fs::create_dir(dir.path().join("sub")).unwrap();
        signaled(&mut changes).await;
        fs::write(dir.path().join("sub/a.yaml"), "a").unwrap();
        signaled(&mut changes).await;
    }

    #[tokio::test]
    async fn reading_is_no_change() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("a");
        fs::write(&file, "a").unwrap();
        let mut changes = watch(vec![file.clone()], QUIET);
        fs::read(&file).unwrap();
        fs::write(dir.path().join("b"), "b").unwrap();
        signaled(&mut changes).await;
        assert!(
            tokio::time::timeout(QUIET * 20, changes.next())
                .await
                .is_err()
        );
    }
}
