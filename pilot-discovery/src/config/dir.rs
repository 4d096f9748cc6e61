//! Configuration from a directory tree of YAML, for running without galley.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::{Path, PathBuf},
    time::Duration,
};

use istio_api::{
    collections::{self, Collection},
    json::{self, Unknown},
    object::{Meta, Object},
};
use mesh_common::{drain, fswatch, yaml};
use pilot_model::key::ObjectKey;
use serde_json::Value;
use tokio::sync::oneshot;
use xxhash_rust::xxh3::xxh3_64;

use super::mcp::wanted;
use crate::world::{self, Batch, Command, command::Change};

/// Largest file read.
const MAX_BYTES: u64 = 16 << 20;
/// Deepest directory read.
const MAX_DEPTH: usize = 16;
/// Time for writers of files to finish.
const SETTLE: Duration = Duration::from_millis(20);

type Id = (&'static str, ObjectKey);

/// A file as it was last good.
#[derive(Debug, Default)]
struct File {
    hash: u64,
    objects: BTreeMap<Id, Object>,
}

/// What the tree held when it was last read.
#[derive(Debug, Default)]
struct Tree {
    files: BTreeMap<PathBuf, File>,
    applied: BTreeMap<Id, Object>,
}

impl Tree {
    /// Reads what changed; gives the differences to what was given before.
    fn read(&mut self, dir: &Path) -> std::io::Result<Vec<Change>> {
        let mut paths = BTreeSet::new();
        list(dir, MAX_DEPTH, &mut paths)?;
        self.files.retain(|path, _| paths.contains(path));
        for path in paths {
            self.read_file(path);
        }
        let mut wanted: BTreeMap<Id, &Object> = BTreeMap::new();
        for (path, file) in &self.files {
            for (id, object) in &file.objects {
                if wanted.contains_key(id) {
                    tracing::warn!(
                        path = %path.display(),
                        kind = object.collection.kind,
                        name = object.meta.full_name(),
                        "object is also in a file that comes before, which stays in force"
                    );
                } else {
                    wanted.insert(id.clone(), object);
                }
            }
        }
        let mut changes = Vec::new();
        let mut push = |object: &Object, new: Option<&Object>| {
            changes.push(Change {
                collection: object.collection,
                key: ObjectKey::new(&object.meta.namespace, &object.meta.name),
                object: new.cloned(),
            });
        };
        for (id, old) in &self.applied {
            if !wanted.contains_key(id) {
                push(old, None);
            }
        }
        for (id, new) in &wanted {
            if self.applied.get(id) != Some(new) {
                push(new, Some(new));
            }
        }
        self.applied = wanted
            .into_iter()
            .map(|(id, object)| (id, object.clone()))
            .collect();
        Ok(changes)
    }

    fn read_file(&mut self, path: PathBuf) {
        let bytes = match read_bytes(&path) {
            Ok(bytes) => bytes,
            Err(error) => {
                tracing::warn!(
                    path = %path.display(),
                    error,
                    "file not read, its last good objects stay in force"
                );
                return;
            }
        };
        let hash = xxh3_64(&bytes);
        let file = self.files.entry(path.clone()).or_default();
        if file.hash == hash {
            return;
        }
        file.hash = hash;
        match parse(&bytes) {
            Ok((objects, warnings)) => {
                for warning in warnings {
                    tracing::warn!(path = %path.display(), warning, "part of a file is ignored");
                }
                file.objects = objects;
            }
            Err(error) => tracing::warn!(
                path = %path.display(),
                error,
                "file not taken, its last good objects stay in force"
            ),
        }
    }
}

fn list(dir: &Path, depth: usize, paths: &mut BTreeSet<PathBuf>) -> std::io::Result<()> {
    for entry in std::fs::read_dir(dir)? {
        let path = entry?.path();
        let yaml = path
            .extension()
            .is_some_and(|extension| extension == "yaml" || extension == "yml");
        if path.is_dir() && depth > 0 {
            list(&path, depth - 1, paths)?;
        } else if yaml && path.is_file() {
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
        return Err(format!("{size} bytes, at most {MAX_BYTES} are read"));
    }
    std::fs::read(path).map_err(|error| error.to_string())
}

type Parsed = (BTreeMap<Id, Object>, Vec<String>);

/// Every object of a file, or the first reason why it cannot be taken.
fn parse(bytes: &[u8]) -> Result<Parsed, String> {
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
            return Err(format!("{at}: the object is in this file twice"));
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
        return Err(format!("{} without metadata.name", collection.kind));
    }
    let namespace = match text("namespace") {
        namespace if namespace.is_empty() => "default".to_owned(),
        namespace => namespace,
    };
    let empty = Value::Object(serde_json::Map::new());
    let spec = value.get("spec").unwrap_or(&empty);
    let describe = |issue: &json::FieldIssue| {
        let path = if issue.path.is_empty() {
            "spec"
        } else {
            &issue.path
        };
        format!(
            "{} {namespace}/{name}: {path}: {}",
            collection.kind, issue.message
        )
    };
    let (body, ignored) = json::read_dynamic(collection.message, spec, Unknown::Prune)
        .map_err(|issues| issues.iter().map(describe).collect::<Vec<_>>().join("; "))?;
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

/// Sends what the tree holds now, and what changes until the process drains. `first` is told
/// when the first reading was sent.
pub async fn follow(
    dir: PathBuf,
    world: world::Handle,
    drain: drain::Watch,
    first: oneshot::Sender<()>,
) {
    let mut first = Some(first);
    let mut changes = fswatch::watch(vec![dir.clone()], SETTLE);
    let mut tree = Tree::default();
    loop {
        match tree.read(&dir) {
            Ok(found) if found.is_empty() => {}
            Ok(changes) => {
                let batch = Batch {
                    changes,
                    full: None,
                };
                if world.send(Command::Apply(batch)).await.is_err() {
                    return;
                }
            }
            Err(error) => tracing::warn!(
                dir = %dir.display(),
                error = %error,
                "directory not readable, its last good objects stay in force"
            ),
        }
        if let Some(first) = first.take() {
            // Nobody waits when the start was given up.
            let _given_up = first.send(());
        }
        tokio::select! {
            () = drain.signaled() => return,
            change = changes.recv() => if change.is_none() { return },
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
    fn a_wrong_type_is_named_by_document_object_and_field() {
        let error = parse(GATEWAY.replace("{app: g}", "7").as_bytes()).unwrap_err();
        for part in ["document 1", "Gateway demo/g", "selector"] {
            assert!(error.contains(part), "{error}");
        }
    }
}
