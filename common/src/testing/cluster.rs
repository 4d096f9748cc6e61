//! An API server with just enough of the protocol: lists in pages, watches, bookmarks, expired
//! versions, single objects, reviews of tokens and access, rejections, and outages.
//!
//! It has no notion of kinds: an object is what was stored at a path.

mod contents;
mod object;
mod path;
mod review;
mod serve;

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use contents::Changes;
use contents::Contents;

/// Maximum time to wait for anything.
const PATIENCE: Duration = Duration::from_secs(20);

#[derive(Debug, Clone)]
struct Shared {
    contents: Arc<Mutex<Contents>>,
    changed: watch::Sender<()>,
    /// Becomes true when the server goes down.
    down: watch::Sender<bool>,
    /// While true, token reviews are not answered.
    reviews_held: watch::Sender<bool>,
}

/// The server.
#[derive(Debug)]
pub struct Cluster {
    shared: Shared,
    /// Always open, so that no other process gets the port.
    listener: std::net::TcpListener,
    /// The task that accepts connections now.
    accepting: JoinHandle<()>,
}

impl Cluster {
    /// Serves an empty cluster. Must be called in a runtime.
    #[must_use]
    pub fn start() -> Self {
        let shared = Shared {
            contents: Arc::default(),
            changed: watch::channel(()).0,
            down: watch::channel(false).0,
            reviews_held: watch::channel(false).0,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let accepting = serve::serve(&listener, &shared);
        Self {
            shared,
            listener,
            accepting,
        }
    }

    /// Closes all present and later connections.
    pub async fn down(&mut self) {
        self.shared.down.send_replace(true);
        let listener = same(&self.listener);
        let refuse = tokio::spawn(async move {
            loop {
                drop(listener.accept().await.unwrap());
            }
        });
        let serving = std::mem::replace(&mut self.accepting, refuse);
        serving.await.unwrap();
    }

    /// Serves again.
    pub async fn up(&mut self) {
        self.accepting.abort();
        let serving = serve::serve(&self.listener, &self.shared);
        let refusing = std::mem::replace(&mut self.accepting, serving);
        assert!(refusing.await.unwrap_err().is_cancelled());
    }

    /// Address of the server.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.listener.local_addr().unwrap()
    }

    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        let result = change(&mut self.shared.contents.lock());
        self.shared.changed.send_replace(());
        result
    }

    /// Stores an object in the collection at `path` (`/api/v1/pods`), and replaces the one of the
    /// same name.
    pub fn apply(&self, path: &str, object: Value) {
        self.change(|contents| contents.apply(path, object));
    }

    /// Deletes an object; `name` is `namespace/name`, or `name` without a namespace.
    pub fn delete(&self, path: &str, name: &str) {
        self.change(|contents| contents.delete(path, name));
    }

    /// The present state of an object; null if it does not exist.
    #[must_use]
    pub fn object(&self, path: &str, name: &str) -> Value {
        self.shared.contents.lock().object(path, name)
    }

    /// Expires all versions: open watches end with 410, as do new ones from before.
    pub fn change_and_forget(&self, path: &str, change: impl FnOnce(&mut Changes<'_>)) {
        self.change(|contents| contents.change_and_forget(path, change));
    }

    /// The next page that continues a list is answered with 410.
    pub fn forget_next_page(&self) {
        self.change(|contents| contents.forget_next_page = true);
    }

    /// Sends all watches of a path a new version without an object.
    pub fn bookmark(&self, path: &str) -> u64 {
        self.change(|contents| contents.bookmark(path))
    }

    /// Ends all watches after their pending events, as servers do after some minutes.
    pub fn end_watches(&self) {
        self.change(|contents| contents.generation += 1);
    }

    /// Whether requests for this path, and those below it, are answered with 403.
    pub fn forbid(&self, path: &str, is_forbidden: bool) {
        self.change(|contents| {
            if is_forbidden {
                contents.forbidden.insert(path.to_owned());
            } else {
                contents.forbidden.remove(path);
            }
        });
    }

    /// Requests for a path so far, as their queries.
    #[must_use]
    pub fn requests(&self, path: &str) -> Vec<String> {
        let contents = self.shared.contents.lock();
        let requests = contents.requests.iter();
        requests
            .filter_map(|(_, uri)| Some(uri.strip_prefix(path)?.to_owned()))
            .filter(|rest| rest.starts_with('?'))
            .collect()
    }

    /// Number of reads of exactly this path.
    #[must_use]
    pub fn gets(&self, path: &str) -> usize {
        let contents = self.shared.contents.lock();
        let requests = contents.requests.iter();
        let same = requests.filter(|(method, uri)| method == "GET" && uri == path);
        same.count()
    }

    /// Number of open watches of this path.
    #[must_use]
    pub fn open_watches(&self, path: &str) -> usize {
        let contents = self.shared.contents.lock();
        contents.watches.get(path).copied().unwrap_or_default()
    }

    /// Requests so far that changed something or attempted to, as `METHOD path`.
    #[must_use]
    pub fn writes(&self) -> Vec<String> {
        let contents = self.shared.contents.lock();
        let writes = contents.requests.iter();
        writes
            .filter(|(method, _)| method != "GET")
            .map(|(method, uri)| {
                let path = uri.split_once('?').map_or(uri.as_str(), |(path, _)| path);
                format!("{method} {path}")
            })
            .collect()
    }

    /// Waits until a condition is true.
    pub async fn until(&self, what: &str, mut test: impl FnMut(&Self) -> bool) {
        let mut changed = self.shared.changed.subscribe();
        let wait = async {
            loop {
                changed.mark_unchanged();
                if test(self) {
                    return;
                }
                changed.changed().await.unwrap();
            }
        };
        if tokio::time::timeout(PATIENCE, wait).await.is_err() {
            let mut requests = self.shared.contents.lock().requests.clone();
            requests.dedup();
            let requests = requests
                .iter()
                .map(|(method, uri)| format!("\n{method} {uri}"));
            panic!("never {what}; requests: {}", requests.collect::<String>());
        }
    }

    /// Waits until the last request for a path is a watch with these query parameters.
    pub async fn watched(&self, path: &str, parts: &[&str]) {
        let what = format!("{path} watched with {parts:?}");
        self.until(&what, |cluster| {
            let requests = cluster.requests(path);
            let last = requests.last().map(String::as_str).unwrap_or_default();
            last.contains("watch=true") && parts.iter().all(|part| last.contains(part))
        })
        .await;
    }
}

/// Writes a kubeconfig for the API server at `address` into `dir`; returns the flag that names it.
#[must_use]
pub fn kubeconfig(dir: &std::path::Path, address: SocketAddr) -> String {
    let path = dir.join("kubeconfig");
    let text = json!({
        "apiVersion": "v1", "kind": "Config", "current-context": "test",
        "contexts": [{"name": "test", "context": {"cluster": "test", "user": "test"}}],
        "clusters": [{"name": "test", "cluster": {"server": format!("http://{address}")}}],
        "users": [{"name": "test", "user": {"token": "test"}}],
    });
    std::fs::write(&path, text.to_string()).unwrap();
    format!("--kubeconfig={}", path.display())
}

fn same(listener: &std::net::TcpListener) -> TcpListener {
    TcpListener::from_std(listener.try_clone().unwrap()).unwrap()
}
