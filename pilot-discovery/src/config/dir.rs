//! Configuration from a directory tree of YAML files, for running without galley.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use istio_api::{
    collections::{self, Collection, Scope},
    manifest::{self, FieldError},
    object::{Meta, Object},
};
use mesh_common::{
    drain,
    fswatch::{self, Changed, WatchDied},
};
use mesh_core::yaml;
use pilot_model::key::ObjectKey;
use serde_json::Value;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::mcp::wanted;
use crate::world::{self, Batch, Command, command::Change};

/// Maximum size of a file, in bytes.
const MAX_BYTES: u64 = 16 << 20;
/// Maximum depth of directories.
const MAX_DEPTH: usize = 16;
/// How long to wait after a change, until files are written completely.
const SETTLE: Duration = Duration::from_millis(20);

type Id = (&'static str, ObjectKey);

/// The last good content of a file.
#[derive(Debug, Default)]
struct File {
    hash: u64,
    objects: Vec<(Id, Object)>,
}

impl File {
    fn get(&self, id: &Id) -> Option<&Object> {
        self.objects
            .iter()
            .find(|(own, _)| own == id)
            .map(|(_, object)| object)
    }
}

/// Content of the tree when it was last read.
#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, File>,
    /// Files that contain an object; the first is in force.
    holders: BTreeMap<Id, BTreeSet<PathBuf>>,
}

impl Tree {
    /// Reads all changes below `dir`; returns the differences to what was returned before.
    fn read(&mut self, dir: &Path) -> std::io::Result<Vec<Change>> {
        let mut paths = BTreeSet::new();
        list(dir, MAX_DEPTH, &mut paths)?;
        let gone = self.files.keys().filter(|path| !paths.contains(*path));
        let gone: Vec<PathBuf> = gone.cloned().collect();
        Ok(self.read_files(gone.into_iter().chain(paths)))
    }

    /// Reads these files again; missing ones are removed.
    fn read_files(&mut self, paths: impl IntoIterator<Item = PathBuf>) -> Vec<Change> {
        // What was in force, for all objects that the files contained or contain now.
        let mut before: BTreeMap<Id, Option<Object>> = BTreeMap::new();
        for path in paths {
            let Some(file) = self.changed(&path) else {
                continue;
            };
            let old = self
                .files
                .get(&path)
                .into_iter()
                .flat_map(|file| &file.objects);
            let new = file.iter().flat_map(|file| &file.objects);
            let touched: BTreeSet<Id> = old.chain(new).map(|(id, _)| id.clone()).collect();
            for id in touched {
                if !before.contains_key(&id) {
                    before.insert(id.clone(), self.in_force(&id).cloned());
                }
                let holders = self.holders.entry(id.clone()).or_default();
                if file.as_ref().is_some_and(|file| file.get(&id).is_some()) {
                    holders.insert(path.clone());
                } else {
                    holders.remove(&path);
                }
                if holders.len() > 1 {
                    tracing::warn!(
                        path = %path.display(),
                        kind = id.0,
                        ns = &*id.1.namespace,
                        name = &*id.1.name,
                        "object is in several files; the first file by name is used"
                    );
                }
                if holders.is_empty() {
                    self.holders.remove(&id);
                }
            }
            match file {
                Some(file) => self.files.insert(path, file),
                None => self.files.remove(&path),
            };
        }
        let mut changes = Vec::new();
        for (id, old) in before {
            let new = self.in_force(&id);
            if let Some(some) = old.as_ref().or(new)
                && old.as_ref() != new
            {
                changes.push(Change {
                    collection: some.collection,
                    key: id.1.clone(),
                    object: new.cloned(),
                });
            }
        }
        changes
    }

    fn in_force(&self, id: &Id) -> Option<&Object> {
        let first = self.holders.get(id)?.first()?;
        self.files.get(first)?.get(id)
    }

    /// The new content of a file, `Some(None)` if it was removed; `None` if it is unchanged.
    fn changed(&self, path: &Path) -> Option<Option<File>> {
        let known = self.files.get(path);
        if !path.is_file() {
            return known.map(|_| None);
        }
        let bytes = match read_bytes(path) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(
                    path = %path.display(),
                    error,
                    "cannot read a file; its last good objects stay in force"
                );
                return None;
            }
        };
        let hash = xxh3_64(&bytes);
        if known.is_some_and(|known| known.hash == hash) {
            return None;
        }
        match parse(&bytes) {
            Ok((objects, warnings)) => {
                for warning in warnings {
                    tracing::warn!(path = %path.display(), warning, "part of a file is ignored");
                }
                let objects = objects.into_iter().collect();
                Some(Some(File { hash, objects }))
            }
            Err(error) => {
                tracing::warn!(
                    path = %path.display(),
                    error,
                    "a file is invalid; its last good objects stay in force"
                );
                None
            }
        }
    }
}

fn is_yaml(path: &Path) -> bool {
    path.extension()
        .is_some_and(|extension| extension == "yaml" || extension == "yml")
}

fn list(dir: &Path, depth: usize, paths: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        if path.is_dir() && depth > 0 {
            list(&path, depth - 1, paths)?;
        } else if is_yaml(&path) && path.is_file() {
            paths.insert(path);
        }
    }
    Ok(())
}

fn read_bytes(path: &Path) -> Result<Vec<u8>, String> {
    let size = std::fs::metadata(path)
        .map_err(|error| error.to_string())?
        .len();
    if size > MAX_BYTES {
        return Err(format!("it has {size} bytes: want at most {MAX_BYTES}"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

type Parsed = (BTreeMap<Id, Object>, Vec<String>);

/// All objects of a file, or the first reason why it is invalid.
pub(crate) fn parse(bytes: &[u8]) -> Result<Parsed, String> {
    let text = std::str::from_utf8(bytes).map_err(|error| error.to_string())?;
    let (mut objects, mut warnings) = (BTreeMap::new(), Vec::new());
    for document in yaml::split(text) {
        let at = format!("document {} (line {})", document.index, document.line);
        let value = yaml::read(&document).map_err(|error| format!("{at}: {error}"))?;
        let Some(value) = value else { continue };
        let Some(collection) = collection(&value) else {
            continue;
        };
        let (object, ignored) =
            object(collection, &value).map_err(|error| format!("{at}: {error}"))?;
        warnings.extend(ignored.into_iter().map(|field| format!("{at}: {field}")));
        let key = ObjectKey::new(&object.meta.namespace, &object.meta.name);
        if objects.insert((collection.name, key), object).is_some() {
            return Err(format!("{at}: the same object is in this file twice"));
        }
    }
    Ok((objects, warnings))
}

fn collection(value: &Value) -> Option<&'static Collection> {
    let group = value.get("apiVersion")?.as_str()?.split('/').next()?;
    collections::by_gvk(group, value.get("kind")?.as_str()?).filter(|found| wanted(found))
}

fn object(collection: &'static Collection, value: &Value) -> Result<(Object, Vec<String>), String> {
    let metadata = value.get("metadata").cloned().unwrap_or(Value::Null);
    let text = |key: &str| {
        metadata
            .get(key)
            .and_then(Value::as_str)
            .unwrap_or_default()
            .to_owned()
    };
    let map = |key: &str| -> BTreeMap<String, String> {
        let entries = metadata.get(key).and_then(Value::as_object);
        entries
            .into_iter()
            .flatten()
            .filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned())))
            .collect()
    };
    let name = text("name");
    if name.is_empty() {
        return Err(format!("{} has no metadata.name", collection.kind));
    }
    let namespace = match text("namespace") {
        _ if collection.scope == Scope::Cluster => String::new(),
        namespace if namespace.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    let describe = |problem: &FieldError| {
        let FieldError { path, message } = problem;
        format!("{} {namespace}/{name}: {path}: {message}", collection.kind)
    };
    let (body, ignored) = manifest::encode(collection, value.get("spec"))
        .map_err(|problems| problems.iter().map(describe).collect::<Vec<_>>().join("; "))?;
    let ignored = ignored.iter().map(describe).collect();
    let version = format!("{:016x}", xxh3_64(&body));
    let meta = Meta {
        namespace,
        name,
        resource_version: version,
        creation_timestamp: None,
        labels: map("labels"),
        annotations: map("annotations"),
    };
    Ok((
        Object {
            meta,
            collection,
            body: body.into(),
        },
        ignored,
    ))
}

/// Sends the content of the tree, then its changes until the process drains. `first` is notified
/// when the content was sent.
///
/// # Errors
/// When the directory is no longer watched.
pub async fn follow(
    dir: PathBuf,
    world: world::Handle,
    drain: drain::Watch,
    first: oneshot::Sender<()>,
) -> Result<(), WatchDied> {
    let mut first = Some(first);
    let mut changes = fswatch::watch_files(dir.clone(), SETTLE);
    let mut tree = Tree::default();
    let mut changed = Changed::Anything;
    loop {
        let read = match changed {
            // Files are identified by paths without symbolic links, as change events name them.
            Changed::Anything => tree.read(&dir.canonicalize().unwrap_or_else(|_| dir.clone())),
            // The cost of a change must not depend on the number of files.
            Changed::Files(files) => Ok(tree.read_files(files.into_iter().filter(|f| is_yaml(f)))),
        };
        match read {
            Ok(found) if found.is_empty() => {}
            Ok(changes) => {
                let batch = Batch {
                    changes,
                    full: None,
                };
                if world.send(Command::Apply(batch)).await.is_err() {
                    return Ok(());
                }
            }
            Err(error) => tracing::warn!(
                dir = %dir.display(),
                error = %error,
                "cannot read the directory; its last good objects stay in force"
            ),
        }
        if let Some(first) = first.take() {
            // The receiver is gone if the start was aborted.
            let _given_up = first.send(());
        }
        tokio::select! {
            () = drain.signaled() => return Ok(()),
            change = changes.next() => changed = change?,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GATEWAY: &str = "apiVersion: networking.istio.io/v1\nkind: Gateway\n\
                           metadata: {name: g, namespace: demo}\n\
                           spec: {selector: {app: g}}\n";

    #[test]
    fn changes_are_differences_and_a_bad_file_keeps_its_objects() {
        let dir = tempfile::tempdir().unwrap();
        let file = dir.path().join("g.yaml");
        std::fs::write(&file, GATEWAY).unwrap();
        let mut tree = Tree::default();
        assert_eq!(tree.read(dir.path()).unwrap().len(), 1);
        assert!(tree.read(dir.path()).unwrap().is_empty());
        for bad in [
            "a: [",
            "apiVersion: networking.istio.io/v1\nkind: Gateway\nspec: {}\n",
        ] {
            std::fs::write(&file, bad).unwrap();
            assert!(tree.read(dir.path()).unwrap().is_empty(), "{bad}");
        }
        std::fs::remove_file(&file).unwrap();
        let gone = tree.read(dir.path()).unwrap();
        assert!(gone.len() == 1 && gone[0].object.is_none());
    }

    #[test]
    fn an_object_in_two_files_is_that_of_the_first_until_it_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (a, b) = (dir.path().join("a.yaml"), dir.path().join("b.yaml"));
        let other = GATEWAY.replace("{app: g}", "{app: other}");
        std::fs::write(&b, &other).unwrap();
        let mut tree = Tree::default();
        let theirs = tree.read(dir.path()).unwrap()[0].object.clone();
        std::fs::write(&a, GATEWAY).unwrap();
        let ours = tree.read_files([a.clone()])[0].object.clone();
        assert!(ours.is_some() && ours != theirs);
        std::fs::write(&b, other.replace("other", "third")).unwrap();
        assert!(
            tree.read_files([b.clone()]).is_empty(),
            "it is not in force"
        );
        std::fs::write(&b, &other).unwrap();
        std::fs::remove_file(&a).unwrap();
        let back = tree.read_files([a, b]);
        assert_eq!(back.len(), 1);
        assert_eq!(back[0].object, theirs);
        assert!(tree.read(dir.path()).unwrap().is_empty());
    }

    #[test]
    fn a_wrong_type_is_named_by_document_object_and_field() {
        let error = parse(GATEWAY.replace("{app: g}", "7").as_bytes()).unwrap_err();
        for part in ["document 1", "Gateway demo/g", "selector"] {
            assert!(error.contains(part), "{error}");
        }
    }

    #[test]
    fn objects_of_the_cluster_have_no_namespace_and_null_asks_for_mutual_tls() {
        let text = "apiVersion: authentication.istio.io/v1alpha1\nkind: MeshPolicy\n\
                    metadata: {name: default}\nspec:\n  peers:\n  - mtls:\n";
        let (objects, warnings) = parse(text.as_bytes()).unwrap();
        assert_eq!(warnings, Vec::<String>::new());
        let object = objects.values().next().unwrap();
        assert_eq!(object.meta.full_name(), "default");
        let policy: istio_api::authentication::v1alpha1::Policy = object.decode().unwrap();
        assert!(policy.peers[0].params.is_some());
    }
}
