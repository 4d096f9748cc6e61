//! Certificates in files: for `file-cert:` and `file-root:` resources and for mounted workload
//! certificates. Changes of the files are published; the expiry of certificates is not tracked
//! here.

use std::{
    collections::BTreeMap,
    fs, io,
    path::{Path, PathBuf},
    sync::Arc,
    time::{Duration, SystemTime},
};

use mesh_common::fswatch::{self, WatchDied};
use parking_lot::Mutex;
use tokio::{
    sync::{Notify, watch},
    time::Instant,
};

use super::{Workload, ca::SYSTEM_BUNDLES, chain, metrics::Metrics, trust};

/// Maximum size; larger files are not certificates.
const MAX_SIZE: u64 = 1 << 20;
/// How long to wait for a partially written pair.
const READ_LIMIT: Duration = Duration::from_secs(10);
/// Directories that are never served, such as those of tokens and of the kernel.
const FORBIDDEN: [&str; 5] = [
    "/var/run/secrets/kubernetes.io",
    "/var/run/secrets/tokens",
    "/proc",
    "/sys",
    "/dev",
];

/// A resource name that refers to files.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `file-cert:<chain>~<key>`.
    Pair {
        /// Certificate chain.
        chain: PathBuf,
        /// Private key.
        key: PathBuf,
    },
    /// `file-root:<path>`; `file-root:system` is the image's CA bundle.
    Roots(PathBuf),
}

impl Source {
    /// Parses a resource name; `None` for names of other forms.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        if let Some(paths) = name.strip_prefix("file-cert:") {
            let (chain, key) = paths.split_once('~')?;
            return Some(Self::Pair {
                chain: chain.into(),
                key: key.into(),
            });
        }
        let path = name.strip_prefix("file-root:")?;
        if path == "system" {
            return SYSTEM_BUNDLES
                .iter()
                .map(PathBuf::from)
                .find(|path| path.exists())
                .map(Self::Roots);
        }
        Some(Self::Roots(path.into()))
    }

    fn paths(&self) -> Vec<PathBuf> {
        match self {
            Self::Pair { chain, key } => vec![chain.clone(), key.clone()],
            Self::Roots(path) => vec![path.clone()],
        }
    }

    /// Reads the current content of the files.
    ///
    /// # Errors
    /// A message that names the file and the problem.
    pub fn read(&self) -> Result<Content, String> {
        match self {
            Self::Pair { chain, key } => {
                let workload = chain::pair(&read(key)?, &read(chain)?, SystemTime::now()).map_err(
                    |problem| format!("{} and {}: {problem}", chain.display(), key.display()),
                )?;
                Ok(Content::Pair(Arc::new(workload)))
            }
            Self::Roots(path) => {
                let text = read(path)?;
                let (roots, bad) = trust::split(&text);
                if bad > 0 {
                    tracing::error!(path = %path.display(), bad, "ignoring invalid certificates");
                }
                if roots.is_empty() {
                    return Err(format!("{}: the file has no certificate", path.display()));
                }
                Ok(Content::Roots(trust::union([text.as_str()]).into()))
            }
        }
    }
}

/// Content of the files.
#[derive(Debug, Clone, PartialEq)]
pub enum Content {
    /// Certificate and key.
    Pair(Arc<Workload>),
    /// Roots, PEM.
    Roots(Arc<str>),
}

fn read(path: &Path) -> Result<String, String> {
    let fail = |error: io::Error| format!("{}: {error}", path.display());
    let resolved = fs::canonicalize(path).map_err(fail)?;
    let forbidden = FORBIDDEN.iter().any(|directory| {
        resolved.starts_with(directory)
            || fs::canonicalize(directory).is_ok_and(|at| resolved.starts_with(at))
    });
    if forbidden {
        return Err(format!(
            "{}: files in this directory are never served",
            path.display()
        ));
    }
    let metadata = fs::metadata(&resolved).map_err(fail)?;
    if !metadata.is_file() || metadata.len() > MAX_SIZE {
        return Err(format!(
            "{}: want a regular file of at most {MAX_SIZE} bytes",
            path.display()
        ));
    }
    fs::read_to_string(&resolved).map_err(fail)
}

/// Reads the files until they match each other, for up to ten seconds; `first_pause` doubles.
///
/// # Errors
/// The last problem.
pub async fn read_settled(source: &Source, first_pause: Duration) -> Result<Content, String> {
    let deadline = Instant::now() + READ_LIMIT;
    let mut pause = first_pause.max(Duration::from_millis(1));
    loop {
        match source.read() {
            Ok(content) => return Ok(content),
            Err(problem) if Instant::now() + pause > deadline => return Err(problem),
            Err(problem) => tracing::debug!(problem, "the files do not match yet, retrying"),
        }
        tokio::time::sleep(pause).await;
        pause = pause.saturating_mul(2);
    }
}

/// File resources requested by streams, read once for all of them.
#[derive(Debug)]
pub struct Files {
    wanted: Mutex<BTreeMap<Source, usize>>,
    changed: Notify,
    contents: watch::Sender<Arc<BTreeMap<Source, Content>>>,
    debounce: Duration,
    metrics: Metrics,
}

impl Files {
    /// Starts without resources; [`run`](Self::run) reads and follows the files.
    #[must_use]
    pub fn new(debounce: Duration, metrics: Metrics) -> Self {
        Self {
            wanted: Mutex::default(),
            changed: Notify::new(),
            contents: watch::Sender::new(Arc::default()),
            debounce,
            metrics,
        }
    }

    /// The current contents.
    #[must_use]
    pub fn contents(&self) -> watch::Receiver<Arc<BTreeMap<Source, Content>>> {
        self.contents.subscribe()
    }

    /// Adds one requesting stream to the resource.
    pub fn add(&self, source: Source) {
        *self.wanted.lock().entry(source).or_default() += 1;
        self.changed.notify_one();
    }

    /// Removes one requesting stream from the resource.
    pub fn remove(&self, source: &Source) {
        let mut wanted = self.wanted.lock();
        if let Some(count) = wanted.get_mut(source) {
            *count -= 1;
            if *count == 0 {
                wanted.remove(source);
            }
        }
        drop(wanted);
        self.changed.notify_one();
    }

    /// Reads requested files, and reads them again when they change. Returns only if that fails.
    ///
    /// # Errors
    /// When files are no longer watched.
    pub async fn run(self: Arc<Self>) -> Result<(), WatchDied> {
        loop {
            let wanted: Vec<Source> = self.wanted.lock().keys().cloned().collect();
            let paths: Vec<PathBuf> = wanted.iter().flat_map(Source::paths).collect();
            // Watch before reading, so that no change in between is missed.
            let mut events = (!paths.is_empty()).then(|| fswatch::watch(paths, self.debounce));
            loop {
                self.read_all(&wanted).await;
                let event = async {
                    match &mut events {
                        Some(events) => events.next().await,
                        None => std::future::pending().await,
                    }
                };
                tokio::select! {
                    event = event => event?,
                    () = self.changed.notified() => break,
                }
            }
        }
    }

    async fn read_all(&self, wanted: &[Source]) {
        let before = Arc::clone(&self.contents.borrow());
        let mut after = BTreeMap::new();
        for source in wanted {
            match read_settled(source, self.debounce).await {
                Ok(content) => {
                    // An unchanged pair keeps its object, including the time of receipt.
                    let content = before
                        .get(source)
                        .filter(|old| **old == content)
                        .cloned()
                        .unwrap_or(content);
                    after.insert(source.clone(), content);
                }
                Err(problem) => {
                    self.metrics.file_failures.inc();
                    tracing::error!(problem, "cannot use a certificate file");
                    if let Some(old) = before.get(source) {
                        after.insert(source.clone(), old.clone());
                    }
                }
            }
        }
        if *before != after {
            self.contents.send_replace(Arc::new(after));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_taken_apart() {
        assert_eq!(
            Source::parse("file-cert:/a/tls.crt~/a/tls.key"),
            Some(Source::Pair {
                chain: "/a/tls.crt".into(),
                key: "/a/tls.key".into()
            })
        );
        assert_eq!(
            Source::parse("file-root:/a/ca.crt"),
            Some(Source::Roots("/a/ca.crt".into()))
        );
        assert_eq!(Source::parse("file-cert:/a"), None);
        assert_eq!(Source::parse("default"), None);
    }

    #[test]
    fn what_is_no_certificate_is_not_given_out() {
        let directory = tempfile::tempdir().unwrap();
        let at = directory.path().join("passwd");
        fs::write(&at, "root:x:0:0\n").unwrap();
        let problem = Source::Roots(at).read().unwrap_err();
        assert!(
            problem.ends_with("the file has no certificate"),
            "{problem}"
        );
        assert!(!problem.contains("root:x"));
        let link = directory.path().join("link");
        std::os::unix::fs::symlink("/proc/self/status", &link).unwrap();
        assert!(
            Source::Roots(link)
                .read()
                .unwrap_err()
                .ends_with("never served")
        );
        assert!(Source::Roots(directory.path().to_owned()).read().is_err());
    }
}
