//! An API server with just enough of the protocol: lists in pages, watches, bookmarks, versions
//! that are forgotten, refusals, and times of absence.

mod object;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::{Query, State};
use axum::http::{Method, StatusCode, Uri};
use axum::response::{IntoResponse, Response};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::harness::{PATIENCE, World};

pub(crate) const SIDECARS: &str = "/apis/networking.istio.io/v1/sidecars";
pub(crate) const DEFINITIONS: &str = "/apis/apiextensions.k8s.io/v1/customresourcedefinitions";

/// Type of an event, and its object.
type Logged = (u64, &'static str, Value);

/// What is at one path.
#[derive(Debug, Default)]
struct Collection {
    /// By `namespace/name`.
    objects: BTreeMap<String, Value>,
    log: Vec<Logged>,
    /// Watches from before this version are answered with 410.
    forgotten: u64,
}

#[derive(Debug, Default)]
struct Contents {
    version: u64,
    collections: BTreeMap<String, Collection>,
    forbidden: BTreeSet<String>,
    /// Answer the next page that continues a list with 410.
    forget_next_page: bool,
    /// End the watches that are open now.
    generation: u64,
    /// Requests as `path?query`.
    requests: Vec<String>,
    /// Statuses written, by `namespace/name`, whatever came of it.
    statuses: Vec<String>,
    /// How the next status that is written is answered.
    refuse_status: Option<u16>,
}

#[derive(Debug, Clone)]
struct Shared {
    contents: Arc<Mutex<Contents>>,
    changed: watch::Sender<()>,
    /// Becomes true when the server goes down.
    down: watch::Sender<bool>,
}

pub(crate) struct Cluster {
    shared: Shared,
    /// Open all the time, so that nobody else gets the port.
    listener: std::net::TcpListener,
    /// Who accepts connections at present.
    accepting: JoinHandle<()>,
}

type Parameters = BTreeMap<String, String>;

impl Cluster {
    /// Serves a cluster that has the definition of Sidecars.
    pub(crate) async fn start() -> Self {
        let shared = Shared {
            contents: Arc::default(),
            changed: watch::channel(()).0,
            down: watch::channel(false).0,
        };
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        listener.set_nonblocking(true).unwrap();
        let accepting = serve(&listener, &shared);
        let cluster = Self {
            shared,
            listener,
            accepting,
        };
        cluster.define("Sidecar", "sidecars");
        cluster
    }

    /// Closes every connection, those that are open and those that come.
    pub(crate) async fn down(&mut self) {
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
    pub(crate) async fn up(&mut self) {
        self.accepting.abort();
        let serving = serve(&self.listener, &self.shared);
        let refusing = std::mem::replace(&mut self.accepting, serving);
        assert!(refusing.await.unwrap_err().is_cancelled());
    }

    /// Arguments of a galley that reads this cluster.
    pub(crate) fn flags(&self, world: &World) -> [String; 2] {
        let address = self.listener.local_addr().unwrap();
        ["--configPath=".to_owned(), world.kubeconfig(address)]
    }

    fn change<T>(&self, change: impl FnOnce(&mut Contents) -> T) -> T {
        let result = change(&mut self.shared.contents.lock());
        self.shared.changed.send_replace(());
        result
    }

    pub(crate) fn apply(&self, path: &str, object: Value) {
        self.change(|contents| contents.apply(path, object));
    }

    pub(crate) fn delete(&self, path: &str, name: &str) {
        self.change(|contents| contents.delete(path, name));
    }

    /// Installs a definition of networking.istio.io with the version v1.
    pub(crate) fn define(&self, kind: &str, plural: &str) {
        self.define_version(kind, plural, "v1");
    }

    pub(crate) fn define_version(&self, kind: &str, plural: &str, version: &str) {
        self.apply(
            DEFINITIONS,
            json!({
                "metadata": {"name": format!("{plural}.networking.istio.io")},
                "spec": {
                    "group": "networking.istio.io",
                    "names": {"kind": kind, "plural": plural},
                    "versions": [{"name": version, "served": true, "storage": true}],
                },
                "status": {"conditions": [{"type": "Established", "status": "True"}]},
            }),
        );
    }

    /// Changes objects and forgets how: open watches end with 410, as do new ones from before.
    pub(crate) fn change_and_forget(&self, path: &str, change: impl FnOnce(&mut Changes<'_>)) {
        self.change(|contents| {
            change(&mut Changes { contents, path });
            contents.version += 1;
            let version = contents.version;
            let collection = contents.collections.entry(path.to_owned()).or_default();
            collection.forgotten = version;
            collection.log.clear();
        });
    }

    pub(crate) fn forget_next_page(&self) {
        self.change(|contents| contents.forget_next_page = true);
    }

    /// Tells all watches of a path of a version without an object.
    pub(crate) fn bookmark(&self, path: &str) -> u64 {
        self.change(|contents| {
            contents.version += 1000;
            let version = contents.version;
            let object = json!({
                "apiVersion": "x/v1", "kind": "X",
                "metadata": {"resourceVersion": version.to_string()},
            });
            let collection = contents.collections.entry(path.to_owned()).or_default();
            collection.log.push((version, "BOOKMARK", object));
            version
        })
    }

    /// Ends all watches after what they have to tell, as servers do after some minutes.
    pub(crate) fn end_watches(&self) {
        self.change(|contents| contents.generation += 1);
    }

    pub(crate) fn forbid(&self, path: &str, is_forbidden: bool) {
        self.change(|contents| {
            if is_forbidden {
                contents.forbidden.insert(path.to_owned());
            } else {
                contents.forbidden.remove(path);
            }
        });
    }

    /// Requests for a path so far, as their queries.
    pub(crate) fn requests(&self, path: &str) -> Vec<String> {
        let contents = self.shared.contents.lock();
        let requests = contents.requests.iter();
        requests
            .filter_map(|request| Some(request.strip_prefix(path)?.to_owned()))
            .filter(|rest| rest.starts_with('?'))
            .collect()
    }

    /// Waits until the last request for a path is a watch with these parts.
    pub(crate) async fn watched(&self, path: &str, parts: &[&str]) {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        loop {
            let requests = self.requests(path);
            let last = requests.last().map(String::as_str).unwrap_or_default();
            if last.contains("watch=true") && parts.iter().all(|part| last.contains(part)) {
                return;
            }
            assert!(
                tokio::time::Instant::now() < deadline,
                "want {parts:?}, have {requests:#?}"
            );
            tokio::time::sleep(std::time::Duration::from_millis(5)).await;
        }
    }
}

fn same(listener: &std::net::TcpListener) -> TcpListener {
    TcpListener::from_std(listener.try_clone().unwrap()).unwrap()
}

/// Serves until it is told to go down.
fn serve(listener: &std::net::TcpListener, shared: &Shared) -> JoinHandle<()> {
    shared.down.send_replace(false);
    let router = Router::new().fallback(answer).with_state(shared.clone());
    let mut down = shared.down.subscribe();
    let serve = axum::serve(same(listener), router).with_graceful_shutdown(async move {
        down.wait_for(|down| *down).await.unwrap();
    });
    tokio::spawn(async move { serve.await.unwrap() })
}

/// Changes that watches are not told of.
pub(crate) struct Changes<'a> {
    contents: &'a mut Contents,
    path: &'a str,
}

impl Changes<'_> {
    pub(crate) fn apply(&mut self, object: Value) {
        self.contents.apply(self.path, object);
    }

    pub(crate) fn delete(&mut self, name: &str) {
        self.contents.delete(self.path, name);
    }
}

impl Contents {
    fn apply(&mut self, path: &str, mut object: Value) {
        self.version += 1;
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        let name = full_name(&object);
        let collection = self.collections.entry(path.to_owned()).or_default();
        let former = collection.objects.insert(name, object.clone());
        let event = if former.is_some() {
            "MODIFIED"
        } else {
            "ADDED"
        };
        collection.log.push((self.version, event, object));
    }

    fn delete(&mut self, path: &str, name: &str) {
        self.version += 1;
        let collection = self.collections.get_mut(path).unwrap();
        let mut object = collection.objects.remove(name).unwrap();
        object["metadata"]["resourceVersion"] = self.version.to_string().into();
        collection.log.push((self.version, "DELETED", object));
    }

    fn list(&mut self, path: &str, parameters: &Parameters) -> Result<Value, Value> {
        let offset = match parameters.get("continue") {
            Some(_) if std::mem::take(&mut self.forget_next_page) => {
                return Err(status(410, "the token is too old"));
            }
            Some(token) => token.parse().unwrap(),
            None => 0,
        };
        let limit: usize = parameters["limit"].parse().unwrap();
        let version = self.version.to_string();
        let Some(collection) = self.collections.get(path) else {
            return Ok(json!({"metadata": {"resourceVersion": version}, "items": null}));
        };
        let objects = collection.objects.values();
        let items: Vec<_> = objects.skip(offset).take(limit).cloned().collect();
        let end = offset + items.len();
        let next = (end < collection.objects.len()).then(|| end.to_string());
        Ok(json!({
            "metadata": {"resourceVersion": version, "continue": next.unwrap_or_default()},
            "items": items,
        }))
    }

    /// The next event of a watch after a version, and the version after it.
    fn next(&self, path: &str, after: u64) -> Option<(Option<u64>, Value)> {
        let collection = self.collections.get(path)?;
        if after < collection.forgotten {
            let status = status(410, "too old resource version");
            return Some((None, json!({"type": "ERROR", "object": status})));
        }
        let mut log = collection.log.iter();
        let (version, event, object) = log.find(|(version, ..)| *version > after)?;
        Some((Some(*version), json!({"type": event, "object": object})))
    }
}

fn full_name(object: &Value) -> String {
    let metadata = &object["metadata"];
    let name = metadata["name"].as_str().unwrap();
    match metadata["namespace"].as_str() {
        Some(namespace) => format!("{namespace}/{name}"),
        None => name.to_owned(),
    }
}

fn status(code: u16, message: &str) -> Value {
    let reason = match code {
        403 => "Forbidden",
        404 => "NotFound",
        409 => "Conflict",
        410 => "Expired",
        _ => "Invalid",
    };
    json!({
        "kind": "Status", "status": "Failure", "code": code, "message": message, "reason": reason,
    })
}

fn refusal(code: StatusCode, body: &Value) -> Response {
    (code, body.to_string()).into_response()
}

async fn answer(
    State(shared): State<Shared>,
    method: Method,
    uri: Uri,
    Query(parameters): Query<Parameters>,
    body: Bytes,
) -> Response {
    let path = uri.path().to_owned();
    let mut contents = shared.contents.lock();
    contents.requests.push(uri.to_string());
    if let Some(one) = object::Path::parse(&path) {
        let answer = contents.one(&method, &one, &body);
        drop(contents);
        shared.changed.send_replace(());
        return answer;
    }
    if contents.forbidden.contains(&path) {
        let body = status(403, "galley cannot list it");
        return refusal(StatusCode::FORBIDDEN, &body);
    }
    if !parameters.contains_key("watch") {
        return match contents.list(&path, &parameters) {
            Ok(list) => list.to_string().into_response(),
            Err(body) => refusal(StatusCode::GONE, &body),
        };
    }
    assert_eq!(parameters["allowWatchBookmarks"], "true");
    let version = parameters["resourceVersion"].parse().unwrap();
    // An open watch is told by an event, as real servers do it; a new one by its status.
    let collection = contents.collections.get(&path);
    if collection.is_some_and(|collection| version < collection.forgotten) {
        return refusal(StatusCode::GONE, &status(410, "too old resource version"));
    }
    let generation = contents.generation;
    drop(contents);
    let watch = Watch {
        changed: shared.changed.subscribe(),
        down: shared.down.subscribe(),
        shared,
        path,
        generation,
        version: Some(version),
    };
    let stream = futures::stream::unfold(watch, Watch::next);
    Body::from_stream(stream).into_response()
}

struct Watch {
    shared: Shared,
    changed: watch::Receiver<()>,
    down: watch::Receiver<bool>,
    path: String,
    generation: u64,
    /// `None` after an error.
    version: Option<u64>,
}

impl Watch {
    async fn next(mut self) -> Option<(Result<Bytes, std::io::Error>, Self)> {
        loop {
            let after = self.version?;
            self.changed.mark_unchanged();
            let (event, is_over) = {
                let contents = self.shared.contents.lock();
                let is_over = contents.generation != self.generation;
                (contents.next(&self.path, after), is_over)
            };
            if let Some((version, event)) = event {
                self.version = version;
                return Some((Ok(format!("{event}\n").into()), self));
            }
            if is_over {
                return None;
            }
            tokio::select! {
                changed = self.changed.changed() => changed.unwrap(),
                _ = self.down.wait_for(|down| *down) => return None,
            }
        }
    }
}
