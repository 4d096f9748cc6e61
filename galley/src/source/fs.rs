//! The file source: a directory of YAML and JSON files that is followed.
//!
//! Kernel events name paths to check; only files whose metadata (inode, size, times) and then
//! content differ are parsed. Every ten seconds the whole tree is checked without events, to find
//! changes behind links and on file systems without events. If the root disappears, everything
//! stays in force until it is back.

use std::collections::BTreeMap;
use std::ops::Bound;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use mesh_common::drain;
use notify::event::{AccessKind, AccessMode, CreateKind, ModifyKind};
use notify::{EventKind, RecommendedWatcher, RecursiveMode, Watcher};
use tokio::sync::mpsc;
use xxhash_rust::xxh3::xxh3_128;

use super::limit;
use super::scan::{self, Stat, Tree};
use super::settle::{Due, Settle};
use galley_engine::content::{self, Content};
use galley_engine::problem::{Problem, effect};
use galley_engine::update::{FileUpdate, Update};

/// Interval of checks of the whole tree.
const POLL: Duration = Duration::from_secs(10);
/// Interval at which the root is checked to be the same directory.
const ROOT_POLL: Duration = Duration::from_secs(1);
/// Quiet time of the contents after the root came back.
const AFTER_RETURN: Duration = Duration::from_millis(500);
/// Maximum number of waiting events; beyond that, the whole tree is checked.
const EVENTS: usize = 1024;

/// A path from an event, and whether its writer is done; `None` if the path is not known.
type Event = Option<(PathBuf, bool)>;

/// The watcher's end of the event channel.
#[derive(Debug, Clone)]
struct Events {
    sender: mpsc::Sender<Event>,
    /// Whether an event found the channel full.
    lost: Arc<AtomicBool>,
}

/// State of a file.
#[derive(Debug, Clone, Copy)]
struct Known {
    stat: Option<Stat>,
    /// Hash of the content; `None` while the file cannot be used.
    hash: Option<u128>,
}

/// The state of the blocking part.
#[derive(Debug)]
struct Files {
    root: PathBuf,
    known: BTreeMap<Arc<Path>, Known>,
}

/// Follows `root` until the process drains or the receiver of updates is gone.
pub async fn run(root: PathBuf, updates: mpsc::Sender<Update>, drain: drain::Watch) {
    let (sender, events) = mpsc::channel(EVENTS);
    let events_tx = Events {
        sender,
        lost: Arc::default(),
    };
    let source = Source {
        files: Files {
            root,
            known: BTreeMap::new(),
        },
        identity: None,
        watcher: None,
        events_tx,
        settle: Settle::default(),
        root_problems: Vec::new(),
        updates,
    };
    tokio::select! {
        () = drain.signaled() => {}
        _ = source.follow(events) => {}
    }
}

struct Source {
    files: Files,
    /// The root directory that is being watched.
    identity: Option<(u64, u64)>,
    watcher: Option<RecommendedWatcher>,
    events_tx: Events,
    settle: Settle,
    root_problems: Vec<Problem>,
    updates: mpsc::Sender<Update>,
}

/// The receiver of updates is gone.
struct Closed;

impl Source {
    async fn follow(mut self, mut events: mpsc::Receiver<Event>) -> Result<(), Closed> {
        self.check_root().await?;
        self.look(Due::All).await?;
        self.send(Update::Synced).await?;
        let start = tokio::time::Instant::now();
        let mut poll = tokio::time::interval_at(start + POLL, POLL);
        let mut root_poll = tokio::time::interval_at(start + ROOT_POLL, ROOT_POLL);
        loop {
            let deadline = self.settle.deadline().map(tokio::time::Instant::from_std);
            tokio::select! {
                event = events.recv() => self.event(event.flatten()),
                () = tokio::time::sleep_until(deadline.unwrap_or(start)), if deadline.is_some() => {}
                _ = poll.tick() => self.settle.everything(Instant::now()),
                _ = root_poll.tick() => self.check_root().await?,
            }
            // Take the other waiting events, so that one check covers all.
            while let Ok(event) = events.try_recv() {
                self.event(event);
            }
            if self.events_tx.lost.swap(false, Ordering::AcqRel) {
                self.settle.everything(Instant::now());
            }
            while let Some(due) = self.settle.take(Instant::now()) {
                self.look(due).await?;
            }
        }
    }

    fn event(&mut self, event: Event) {
        let now = Instant::now();
        let Some((path, closed)) = event else {
            self.settle.everything(now);
            return;
        };
        let Ok(relative) = path.strip_prefix(&self.files.root) else {
            self.settle.everything(now);
            return;
        };
        let mut visible = PathBuf::new();
        for part in relative.components() {
            let name = part.as_os_str().to_string_lossy();
            if scan::is_hidden(&name) {
                // A mounted volume was swapped, or another target of links has changed.
                if name.starts_with("..") {
                    self.settle.changed(visible, true, now);
                }
                return;
            }
            visible.push(part);
        }
        self.settle.changed(visible, closed, now);
    }

    async fn send(&self, update: Update) -> Result<(), Closed> {
        self.updates.send(update).await.map_err(|_| Closed)
    }

    async fn root_problems(&mut self, problems: Vec<Problem>) -> Result<(), Closed> {
        if problems == self.root_problems {
            return Ok(());
        }
        self.root_problems.clone_from(&problems);
        self.send(Update::Root(problems)).await
    }

    /// Watches the root, and again after it has become another directory.
    async fn check_root(&mut self) -> Result<(), Closed> {
        match scan::root(&self.files.root) {
            Ok(stat) => {
                if self.identity == Some(stat.identity()) {
                    return Ok(());
                }
                let returned = self.identity.is_some() || !self.root_problems.is_empty();
                self.identity = Some(stat.identity());
                self.watcher = None;
                let problems = self.watch().err().into_iter().collect();
                if returned {
                    // Whoever created it may still be filling it.
                    tokio::time::sleep(AFTER_RETURN).await;
                    tracing::info!(root = %self.files.root.display(), "the directory is back");
                }
                self.root_problems(problems).await?;
                self.settle.everything(Instant::now());
            }
            Err(error) => {
                self.identity = None;
                self.watcher = None;
                let message = format!("{} cannot be read: {error}", self.files.root.display());
                let problem = Problem::file(&Path::new("").into(), message, effect::KEPT);
                self.root_problems(vec![problem]).await?;
            }
        }
        Ok(())
    }

    fn watch(&mut self) -> Result<(), Problem> {
        let root = &self.files.root;
        // Event paths begin with the watched path, so the root is watched as given.
        let events = self.events_tx.clone();
        let config = notify::Config::default().with_follow_symlinks(false);
        let made = RecommendedWatcher::new(move |event| forward(event, &events), config);
        let watcher = made.and_then(|mut watcher| {
            watcher.watch(root, RecursiveMode::Recursive)?;
            Ok(watcher)
        });
        match watcher {
            Ok(watcher) => {
                self.watcher = Some(watcher);
                Ok(())
            }
            Err(error) => Err(Problem::file(
                &Path::new("").into(),
                format!("{} cannot be watched: {error}", root.display()),
                "changes are found with a delay of up to ten seconds",
            )),
        }
    }

    /// Checks paths and sends what changed.
    async fn look(&mut self, due: Due) -> Result<(), Closed> {
        if self.identity.is_none() {
            // Without the root, nothing below it is considered deleted.
            return Ok(());
        }
        let paths = match due {
            Due::All => {
                // The root may have disappeared during the check.
                self.check_root().await?;
                if self.identity.is_none() {
                    return Ok(());
                }
                vec![PathBuf::new()]
            }
            Due::Paths(paths) => paths,
        };
        for path in paths {
            let root = self.files.root.clone();
            let below = path.clone();
            let Some(tree) = blocking(move || scan::walk(&root, &below)).await else {
                continue;
            };
            let Some(plan) = self.plan(&path, tree).await? else {
                continue;
            };
            self.carry_out(plan).await?;
        }
        Ok(())
    }

    /// Compares a part of the tree with its known state.
    async fn plan(&mut self, below: &Path, mut tree: Tree) -> Result<Option<Plan>, Closed> {
        if tree.files.is_empty()
            && tree.unreadable.is_empty()
            && scan::root(&self.files.root).is_err()
        {
            // The directory is missing, which is not the same as empty.
            self.check_root().await?;
            return Ok(None);
        }
        // The root is a single file, for which a walk finds nothing.
        let name = below
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if tree.files.is_empty() && scan::is_config(name) {
            let full = scan::join(&self.files.root, below);
            match scan::stat(&full) {
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                _ if full.is_dir() => {}
                stat => {
                    tree.files.insert(below.into(), stat);
                }
            }
        }
        let mut problems: Vec<_> = self
            .root_problems
            .iter()
            .filter(|problem| !is_tree(problem, below))
            .cloned()
            .collect();
        for (directory, error) in &tree.unreadable {
            let message = format!("the directory cannot be read: {error}");
            let effect = "what was read below it stays in force";
            problems.push(Problem::file(&directory.as_path().into(), message, effect));
        }
        if tree.too_many {
            let message = format!(
                "there are more than {} files; the surplus is not read",
                limit::FILES
            );
            problems.push(Problem::file(&below.into(), message, effect::KEPT));
        }
        problems.sort();
        problems.dedup();
        self.root_problems(problems).await?;

        let mut plan = Plan::default();
        let kept = |path: &Path| {
            tree.too_many
                || tree
                    .unreadable
                    .iter()
                    .any(|(directory, _)| path.starts_with(directory))
        };
        let range = (Bound::Included(below), Bound::Unbounded);
        for (path, _) in self.files.known.range::<Path, _>(range) {
            if !path.starts_with(below) {
                break;
            }
            if !tree.files.contains_key(path) && !kept(path) {
                plan.removed.push(path.clone());
            }
        }
        for (path, stat) in tree.files {
            let known = self.files.known.get(&path);
            let stat = stat.ok();
            let same = known.is_some_and(|known| known.stat.is_some() && known.stat == stat);
            // A file that could not be used is read at every check: a change of permissions leaves
            // no trace in its metadata.
            if !same || known.is_some_and(|known| known.hash.is_none()) {
                plan.read.push((path, stat));
            }
        }
        Ok(Some(plan))
    }

    async fn carry_out(&mut self, plan: Plan) -> Result<(), Closed> {
        let mut updates = Vec::new();
        for path in plan.removed {
            self.files.known.remove(&path);
            updates.push(FileUpdate::Removed(path));
        }
        for batch in plan.read.chunks(limit::BATCH_FILES) {
            let root = self.files.root.clone();
            let batch: Vec<_> = batch
                .iter()
                .map(|(path, stat)| {
                    let hash = self.files.known.get(path).and_then(|known| known.hash);
                    (path.clone(), *stat, hash)
                })
                .collect();
            let read = move || -> Vec<_> {
                batch
                    .into_iter()
                    .map(|(path, stat, hash)| (read(&root, &path, hash), path, stat))
                    .collect()
            };
            for (outcome, path, stat) in blocking(read).await.unwrap_or_default() {
                let hash = match outcome {
                    Outcome::Same(hash) => Some(hash),
                    Outcome::New(hash, content) => {
                        updates.push(FileUpdate::Read(path.clone(), content));
                        Some(hash)
                    }
                    Outcome::Unusable(problem) => {
                        updates.push(FileUpdate::Unusable(path.clone(), problem));
                        None
                    }
                };
                self.files.known.insert(path, Known { stat, hash });
            }
            if !updates.is_empty() {
                self.send(Update::Files(std::mem::take(&mut updates)))
                    .await?;
            }
        }
        if !updates.is_empty() {
            self.send(Update::Files(updates)).await?;
        }
        Ok(())
    }
}

/// Whether a problem of the root was found while checking the tree at or below this path.
fn is_tree(problem: &Problem, below: &Path) -> bool {
    let from_tree = problem.effect != effect::KEPT || problem.message.starts_with("there are more");
    from_tree && !problem.message.contains("cannot be watched") && problem.file.starts_with(below)
}

#[derive(Debug, Default)]
struct Plan {
    removed: Vec<Arc<Path>>,
    read: Vec<(Arc<Path>, Option<Stat>)>,
}

enum Outcome {
    Same(u128),
    New(u128, Content),
    Unusable(Problem),
}

fn read(root: &Path, path: &Arc<Path>, known: Option<u128>) -> Outcome {
    let text = match scan::read(root, path) {
        Ok(text) => text,
        Err(problem) => return Outcome::Unusable(problem),
    };
    let hash = xxh3_128(text.as_bytes());
    if known == Some(hash) {
        Outcome::Same(hash)
    } else {
        Outcome::New(hash, content::read(path, &text))
    }
}

/// Runs file operations on blocking threads; `None` if they panicked, which is logged.
async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> Option<T> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Some(result),
        Err(error) => {
            tracing::error!(error = %error, "reading the configuration directory panicked");
            None
        }
    }
}

/// Called on the watcher's thread. Reads are not changes; lost events cause a check of the whole
/// tree.
fn forward(event: notify::Result<notify::Event>, events: &Events) {
    let lost = |events: &Events| {
        events.lost.store(true, Ordering::Release);
        // This only wakes the other side; a full channel does so as well.
        let _ = events.sender.try_send(None);
    };
    let event = match event {
        Ok(event) if event.need_rescan() => return lost(events),
        Ok(event) => event,
        Err(_) => return lost(events),
    };
    let closed = match event.kind {
        EventKind::Access(AccessKind::Close(AccessMode::Write)) => true,
        EventKind::Access(_) => return,
        EventKind::Modify(ModifyKind::Data(_) | ModifyKind::Any) => false,
        // A new file is about to be written to; a new directory is complete.
        EventKind::Create(kind) => kind == CreateKind::Folder,
        _ => true,
    };
    for path in event.paths {
        if events.sender.try_send(Some((path, closed))).is_err() {
            return lost(events);
        }
    }
}
