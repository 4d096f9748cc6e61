//! Decides when a file that is being written may be read: pure, time is an argument.
//!
//! A writer that closes a file or renames it into place is done. A file that was changed and not
//! closed is left alone for a while, as it may be half written.

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use mesh_core::debounce::Debounce;

/// Delay after a file was closed, renamed into place, or removed.
pub(super) const AFTER_CLOSE: Duration = Duration::from_millis(4);
/// Delay after the last change of a file that is still open.
pub(super) const AFTER_CHANGE: Duration = Duration::from_millis(100);
/// Maximum delay after the first change.
pub(super) const AT_MOST: Duration = Duration::from_secs(1);
/// With more waiting paths than this, the whole tree is checked instead.
pub(super) const MAX_PATHS: usize = 4096;

/// Changed paths that have not been checked yet.
#[derive(Debug, Default)]
pub(super) struct Settle {
    paths: BTreeMap<PathBuf, Debounce>,
    all: Option<Debounce>,
}

/// What to check.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Due {
    /// These paths.
    Paths(Vec<PathBuf>),
    /// The whole tree.
    All,
}

fn quiet(closed: bool) -> Duration {
    if closed { AFTER_CLOSE } else { AFTER_CHANGE }
}

fn due(wait: &Debounce) -> Option<Instant> {
    wait.deadline().map(|(at, _)| at)
}

impl Settle {
    /// Records a changed path. `closed`: its writer is done.
    pub(super) fn changed(&mut self, path: PathBuf, closed: bool, now: Instant) {
        if self.paths.len() >= MAX_PATHS && !self.paths.contains_key(&path) {
            self.paths.clear();
            self.everything(now);
            return;
        }
        let wait = self.paths.entry(path);
        wait.or_insert_with(|| Debounce::new(AT_MOST))
            .changed(now, quiet(closed));
    }

    /// Records a change of an unknown path.
    pub(super) fn everything(&mut self, now: Instant) {
        self.all
            .get_or_insert_with(|| Debounce::new(AT_MOST))
            .changed(now, quiet(true));
    }

    /// When the next check is due.
    pub(super) fn deadline(&self) -> Option<Instant> {
        self.paths.values().chain(&self.all).filter_map(due).min()
    }

    /// Takes what is due.
    pub(super) fn take(&mut self, now: Instant) -> Option<Due> {
        let is_due = |wait: &Debounce| due(wait).is_some_and(|at| at <= now);
        if self.all.as_ref().is_some_and(is_due) {
            self.all = None;
            // Files that are still being written stay queued: checking them early is harmless, and
            // they are checked again.
            return Some(Due::All);
        }
        let due = self.paths.extract_if(.., |_, wait| is_due(wait));
        let due: Vec<_> = due.map(|(path, _)| path).collect();
        (!due.is_empty()).then_some(Due::Paths(due))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn path(name: &str) -> PathBuf {
        PathBuf::from(name)
    }

    #[test]
    fn a_closed_file_is_due_soon_and_an_open_one_later() {
        let start = Instant::now();
        let mut settle = Settle::default();
        settle.changed(path("a"), false, start);
        assert_eq!(settle.deadline(), Some(start + AFTER_CHANGE));
        assert_eq!(settle.take(start + AFTER_CLOSE), None);
        let closed = start + Duration::from_millis(10);
        settle.changed(path("a"), true, closed);
        assert_eq!(
            settle.take(closed + AFTER_CLOSE),
            Some(Due::Paths(vec![path("a")]))
        );
        assert_eq!(settle.deadline(), None);
    }

    #[test]
    fn a_file_that_is_written_all_the_time_is_read_in_the_end() {
        let start = Instant::now();
        let mut settle = Settle::default();
        let mut now = start;
        while settle.take(now).is_none() {
            settle.changed(path("a"), false, now);
            now += Duration::from_millis(50);
            assert!(now <= start + AT_MOST);
        }
    }

    #[test]
    fn too_many_paths_become_everything() {
        let start = Instant::now();
        let mut settle = Settle::default();
        for i in 0..=MAX_PATHS {
            settle.changed(path(&i.to_string()), true, start);
        }
        assert_eq!(settle.take(start + AFTER_CLOSE), Some(Due::All));
        assert_eq!(settle.take(start + AT_MOST), None);
    }
}
