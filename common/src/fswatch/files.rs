//! Reports which files of a directory tree changed, so that the cost of a change does not depend on
//! the size of the tree.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use notify::event::{AccessKind, AccessMode, ModifyKind, RenameMode};
use notify::{Event, EventKind};
use parking_lot::Mutex;
use tokio::sync::{Notify, mpsc};
use tokio::time::{Instant, MissedTickBehavior};

use super::{Changes, POLL, POLL_WITHOUT_EVENTS, Watched};

/// What may have changed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Changed {
    /// Unknown: look at everything.
    Anything,
    /// These files, by their paths with links resolved; they may have been deleted.
    Files(Vec<PathBuf>),
}

/// Fraction of the debounce time that is enough if every writer has finished.
const FINISHED: u32 = 8;

/// Watches a directory recursively. A change is reported when nothing has happened for `debounce`,
/// much sooner if the files were closed or renamed into place, at the latest after ten times
/// `debounce`.
///
/// Must be called in a tokio runtime.
pub fn watch_files(dir: PathBuf, debounce: Duration) -> Changes<Changed> {
    let (sender, receiver) = mpsc::channel(1);
    let seen = Arc::new(Seen::default());
    let noting = seen.clone();
    let watched = Watched::new(vec![dir.clone()], move |event| noting.note(event));
    tokio::spawn(run(watched, dir, debounce, seen, sender));
    receiver.into()
}

/// Events that have not been reported yet.
#[derive(Debug, Default)]
struct Seen {
    pending: Mutex<Pending>,
    more: Notify,
}

#[derive(Debug, Default)]
struct Pending {
    /// Files, and whether their writers have finished.
    files: BTreeMap<PathBuf, bool>,
    anything: bool,
}

impl Seen {
    fn note(&self, event: notify::Result<Event>) {
        let mut pending = self.pending.lock();
        match event {
            Ok(event) if !event.need_rescan() => {
                let Some(finished) = finished(event.kind) else {
                    return;
                };
                for path in event.paths {
                    pending.files.insert(path, finished);
                }
            }
            _ => pending.anything = true,
        }
        drop(pending);
        self.more.notify_one();
    }

    /// Whether no file is known to be in the middle of a write.
    fn is_finished(&self) -> bool {
        let pending = self.pending.lock();
        !pending.anything && pending.files.values().all(|finished| *finished)
    }

    /// What changed below `dir`; `None` if nothing did.
    fn take(&self, dir: &Path) -> Option<Changed> {
        let mut pending = std::mem::take(&mut *self.pending.lock());
        let target = dir.canonicalize().ok();
        let inside = |path: &Path| target.as_ref().is_some_and(|dir| path.starts_with(dir));
        // Beside a directory that is reached through links, one of the links may have changed.
        let linked = target != std::path::absolute(dir).ok();
        if !linked {
            // The parent directory is watched as well, but is not of interest.
            pending
                .files
                .retain(|path, _| path.starts_with(dir) || inside(path));
        }
        // A directory that was created or deleted, or a link, affects more than itself.
        let plain = |path: &Path| match path.symlink_metadata() {
            Ok(metadata) => metadata.is_file(),
            Err(_) => path.extension().is_some(),
        };
        let known = |path: &PathBuf| inside(path) && plain(path);
        if pending.anything || !pending.files.keys().all(known) {
            return Some(Changed::Anything);
        }
        let files: Vec<PathBuf> = pending.files.into_keys().collect();
        (!files.is_empty()).then_some(Changed::Files(files))
    }
}

/// Whether a file is complete after an event; `None` if the event changes nothing.
fn finished(kind: EventKind) -> Option<bool> {
    match kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => Some(true),
        EventKind::Access(_) => None,
        EventKind::Modify(ModifyKind::Name(
            RenameMode::To | RenameMode::From | RenameMode::Both,
        ))
        | EventKind::Remove(_) => Some(true),
        _ => Some(false),
    }
}

async fn run(
    mut watched: Watched,
    dir: PathBuf,
    debounce: Duration,
    seen: Arc<Seen>,
    changes: mpsc::Sender<Changed>,
) {
    let period = if watched.has_events() {
        POLL
    } else {
        POLL_WITHOUT_EVENTS
    };
    let mut poll = tokio::time::interval_at(Instant::now() + period, period);
    poll.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        let changed = tokio::select! {
            () = changes.closed() => return,
            _ = poll.tick() => Changed::Anything,
            () = seen.more.notified() => {
                settle(&seen, debounce).await;
                let Some(changed) = seen.take(&dir) else { continue };
                changed
            }
        };
        if changed == Changed::Anything {
            watched.refresh();
        }
        // Unlike a mere hint, changes must not get lost.
        if changes.send(changed).await.is_err() {
            return;
        }
    }
}

/// Returns when nothing happened for a while, at the latest after ten times `quiet`.
async fn settle(seen: &Seen, quiet: Duration) {
    let end = Instant::now() + quiet * 10;
    while Instant::now() < end {
        let wait = if seen.is_finished() {
            quiet / FINISHED
        } else {
            quiet
        };
        if tokio::time::timeout(wait, seen.more.notified())
            .await
            .is_err()
        {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::fs;
    use std::os::unix::fs::symlink;

    use super::*;

    const QUIET: Duration = Duration::from_millis(40);
    const LIMIT: Duration = Duration::from_secs(20);

    async fn reported(changes: &mut Changes<Changed>) -> Changed {
        tokio::time::timeout(LIMIT, changes.next())
            .await
            .unwrap()
            .unwrap()
    }

    /// Waits until `file` is reported.
    async fn wait_for(changes: &mut Changes<Changed>, file: &Path) {
        loop {
            match reported(changes).await {
                Changed::Files(files) if files.iter().any(|path| path == file) => return,
                Changed::Files(_) => {}
                Changed::Anything => panic!("{} alone changed", file.display()),
            }
        }
    }

    #[tokio::test]
    async fn a_file_that_is_written_renamed_or_removed_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mut changes = watch_files(dir.clone(), QUIET);
        let file = dir.join("a.yaml");
        fs::write(&file, "a").unwrap();
        wait_for(&mut changes, &file).await;
        fs::write(dir.join("a.tmp"), "b").unwrap();
        fs::rename(dir.join("a.tmp"), &file).unwrap();
        wait_for(&mut changes, &file).await;
        fs::remove_file(&file).unwrap();
        wait_for(&mut changes, &file).await;
    }

    #[tokio::test]
    async fn a_directory_or_a_link_may_have_changed_anything() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mut changes = watch_files(dir.clone(), QUIET);
        fs::create_dir(dir.join("sub")).unwrap();
        assert_eq!(reported(&mut changes).await, Changed::Anything);
        // It is watched from now on.
        let below = dir.join("sub/a.yaml");
        fs::write(&below, "a").unwrap();
        wait_for(&mut changes, &below).await;
        symlink(&below, dir.join("link")).unwrap();
        assert_eq!(reported(&mut changes).await, Changed::Anything);
    }

    #[tokio::test]
    async fn the_neighbours_of_the_directory_are_of_no_interest() {
        let around = tempfile::tempdir().unwrap();
        let around = around.path().canonicalize().unwrap();
        let dir = around.join("dir");
        fs::create_dir(&dir).unwrap();
        let mut changes = watch_files(dir.clone(), QUIET);
        fs::create_dir(around.join("other")).unwrap();
        fs::write(around.join("other.yaml"), "a").unwrap();
        fs::write(dir.join("a.yaml"), "a").unwrap();
        assert_eq!(
            reported(&mut changes).await,
            Changed::Files(vec![dir.join("a.yaml")])
        );
    }

    #[tokio::test]
    async fn changes_that_are_not_received_yet_are_reported_later() {
        let dir = tempfile::tempdir().unwrap();
        let dir = dir.path().canonicalize().unwrap();
        let mut changes = watch_files(dir.clone(), QUIET);
        for name in ["a.yaml", "b.yaml", "c.yaml"] {
            fs::write(dir.join(name), "a").unwrap();
            tokio::time::sleep(QUIET * 2).await;
        }
        wait_for(&mut changes, &dir.join("a.yaml")).await;
        wait_for(&mut changes, &dir.join("c.yaml")).await;
    }
}
