//! The objects of one kind: reads them, drops those that have not changed, and sends the others.

use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use std::time::Instant;

use mesh_common::list_watch::{Api, Closed, Event, Follower, Listed};
use serde::Deserialize;
use serde_json::Value;
use tokio::sync::{mpsc, watch};
use xxhash_rust::xxh3::Xxh3;

use super::Metrics;
use super::kinds::{Kind, Presence};
use super::patience::Patience;
use super::trouble::Report;
use crate::source::limit;
use galley_engine::content::{self, Stored};
use galley_engine::update::{FileUpdate, Update};

/// An object in the form of the API server.
#[derive(Debug, Clone, Deserialize)]
#[serde(transparent)]
pub(super) struct Object(Value);

impl Object {
    fn text(&self, pointer: &str) -> &str {
        let value = self.0.pointer(pointer).and_then(Value::as_str);
        value.unwrap_or_default()
    }

    /// Fingerprint: equal for equal states of an object.
    fn fingerprint(&self) -> u128 {
        let mut hash = Xxh3::new();
        for part in [self.text("/metadata/uid"), self.version()] {
            hash.update(&part.len().to_le_bytes());
            hash.update(part.as_bytes());
        }
        hash.digest128()
    }
}

impl Listed for Object {
    fn version(&self) -> &str {
        self.text("/metadata/resourceVersion")
    }
}

/// State of one kind: what was sent.
#[derive(Debug)]
pub(super) struct Objects {
    kind: Kind,
    /// Version of the API that is used.
    version: &'static str,
    /// Fingerprints of the objects that were sent, by path.
    known: HashMap<Arc<Path>, u128>,
    /// Paths in the present list so far.
    listed: HashSet<Arc<Path>>,
    updates: mpsc::Sender<Update>,
    patience: Patience,
    metrics: Metrics,
    report: Report,
    /// Whether to read the statuses of objects.
    pub(super) statuses: bool,
}

/// Follows a kind while the cluster serves it.
pub(super) async fn follow(
    api: Api,
    mut objects: Objects,
    mut presence: watch::Receiver<Presence>,
) {
    loop {
        let now = *presence.borrow_and_update();
        match now {
            Presence::Unknown => {}
            Presence::Absent => {
                objects.report.tell(None).await;
                if objects.forget_all().await.is_err() {
                    return;
                }
            }
            Presence::Served(version) => {
                objects.read_in(version);
                let target = objects.kind.target(version);
                tokio::select! {
                    Closed = api.follow(&target, &mut objects) => return,
                    Ok(()) = presence.changed() => continue,
                }
            }
        }
        if presence.changed().await.is_err() {
            return;
        }
    }
}

impl Objects {
    pub(super) fn new(
        kind: Kind,
        updates: mpsc::Sender<Update>,
        patience: Patience,
        metrics: Metrics,
        report: Report,
    ) -> Self {
        Self {
            kind,
            version: "",
            known: HashMap::new(),
            listed: HashSet::new(),
            updates,
            patience,
            metrics,
            report,
            statuses: false,
        }
    }

    /// Reads objects in this version of the API. Statuses are written in it, so that a new version
    /// makes all objects be sent again.
    fn read_in(&mut self, version: &'static str) {
        if self.statuses && self.version != version {
            self.known.values_mut().for_each(|known| *known = 0);
        }
        self.version = version;
    }

    fn path(&self, object: &Object) -> Arc<Path> {
        let parts = [
            self.kind.group,
            self.kind.plural,
            object.text("/metadata/namespace"),
            object.text("/metadata/name"),
        ];
        let parts: Vec<_> = parts.into_iter().filter(|part| !part.is_empty()).collect();
        Path::new(&parts.join("/")).into()
    }

    /// Sends objects that differ from what was sent before. Fingerprints are recorded after
    /// sending, as this future may be dropped while it waits.
    async fn apply(&mut self, objects: Vec<Object>) -> Result<(), Closed> {
        let mut objects = objects.into_iter().peekable();
        while objects.peek().is_some() {
            let mut files = Vec::new();
            let mut noted = Vec::new();
            for mut object in objects.by_ref() {
                let (path, fingerprint) = (self.path(&object), object.fingerprint());
                self.listed.insert(path.clone());
                if self.known.get(&path) == Some(&fingerprint) {
                    continue;
                }
                files.push(self.read(&path, &mut object));
                noted.push((path, fingerprint));
                if files.len() == limit::BATCH_FILES {
                    break;
                }
            }
            self.send(files).await?;
            self.known.extend(noted);
        }
        Ok(())
    }

    fn read(&self, path: &Arc<Path>, object: &mut Object) -> FileUpdate {
        let api_version = self.kind.api_version(self.version);
        if let Some(members) = object.0.as_object_mut() {
            // Items of lists do not have these.
            members.insert("apiVersion".to_owned(), api_version.into());
            members.insert("kind".to_owned(), self.kind.kind.into());
        }
        let mut content = content::read_object(path, &object.0);
        content.stored = self.statuses.then(|| Box::new(self.stored(object)));
        let is_good = content.failed.is_empty() && !content.obscured;
        self.metrics.converted(&self.kind, self.version, is_good);
        FileUpdate::Read(path.clone(), content)
    }

    /// Moves the status out of the object, which is read without it.
    fn stored(&self, object: &mut Object) -> Stored {
        let generation = object.0.pointer("/metadata/generation");
        Stored {
            api_version: self.version,
            resource_version: object.version().into(),
            generation: generation.and_then(Value::as_i64),
            status: object
                .0
                .get_mut("status")
                .map(Value::take)
                .unwrap_or_default(),
        }
    }

    async fn remove(&mut self, paths: Vec<Arc<Path>>) -> Result<(), Closed> {
        for batch in paths.chunks(limit::BATCH_FILES) {
            let files = batch.iter().cloned().map(FileUpdate::Removed).collect();
            self.send(files).await?;
            for path in batch {
                self.known.remove(path);
            }
        }
        Ok(())
    }

    async fn send(&self, files: Vec<FileUpdate>) -> Result<(), Closed> {
        if files.is_empty() {
            return Ok(());
        }
        let update = Update::Files(files);
        self.updates.send(update).await.map_err(|_| Closed)
    }

    /// The cluster no longer has the kind: removes all its objects.
    async fn forget_all(&mut self) -> Result<(), Closed> {
        let all = self.known.keys().cloned().collect();
        self.remove(all).await?;
        self.patience.done();
        Ok(())
    }
}

impl Follower<Object> for Objects {
    async fn take(&mut self, event: Event<'_, Object>) -> Result<(), Closed> {
        match event {
            Event::Started => self.listed.clear(),
            Event::Page(objects) => self.apply(objects).await?,
            Event::Complete => {
                let known = self.known.keys();
                let gone = known.filter(|path| !self.listed.contains(*path));
                let gone = gone.cloned().collect();
                self.remove(gone).await?;
                self.listed = HashSet::new();
                self.patience.done();
            }
            Event::Applied(object) => {
                self.apply(vec![object]).await?;
                self.listed.clear();
            }
            Event::Deleted(object) => {
                let path = self.path(&object);
                if self.known.contains_key(&path) {
                    self.remove(vec![path]).await?;
                }
            }
            Event::Failed(failure) => {
                self.report.tell(Some(failure)).await;
                if failure.is_refusal() && self.patience.refused(Instant::now()) {
                    tracing::warn!(
                        kind = self.kind.kind,
                        "cannot read a kind; it counts as empty for now"
                    );
                }
            }
            Event::Works => self.report.tell(None).await,
        }
        Ok(())
    }

    fn wake(&self) -> Option<Instant> {
        self.patience.deadline()
    }
}
