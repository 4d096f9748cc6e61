//! What is read of namespaces and their ConfigMaps and passed to the board.

use mesh_common::list_watch::{Closed, Event, Follower, Listed};
use serde::Deserialize;
use tokio::sync::mpsc;

use crate::cluster::trouble::Trouble;

/// A namespace.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Namespace {
    pub(super) metadata: Metadata,
    #[serde(default)]
    status: Status,
}

#[derive(Clone, Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct Metadata {
    pub(super) name: String,
    #[serde(default)]
    pub(super) namespace: String,
    #[serde(default)]
    resource_version: String,
    deletion_timestamp: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
struct Status {
    #[serde(default)]
    phase: String,
}

impl Namespace {
    pub(super) fn is_active(&self) -> bool {
        self.metadata.deletion_timestamp.is_none() && self.status.phase != "Terminating"
    }
}

impl Listed for Namespace {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// A ConfigMap, reduced to the one relevant key.
#[derive(Clone, Debug, Deserialize)]
pub(super) struct Map {
    pub(super) metadata: Metadata,
    data: Option<Data>,
}

#[derive(Clone, Debug, Deserialize)]
struct Data {
    #[serde(rename = "root-cert.pem")]
    root: Option<String>,
}

impl Map {
    pub(super) fn root(&self) -> Option<&str> {
        self.data.as_ref()?.root.as_deref()
    }
}

impl Listed for Map {
    fn version(&self) -> &str {
        &self.metadata.resource_version
    }
}

/// Event of a watch.
#[derive(Debug)]
pub(super) enum Fact<T> {
    /// A list begins.
    Begin,
    /// These objects exist.
    There(Vec<T>),
    /// This object was deleted.
    Gone(T),
    /// The list is complete.
    End,
}

/// Forwards the events of a watch.
#[derive(Debug)]
pub(super) struct Forward<T> {
    pub(super) facts: mpsc::Sender<Fact<T>>,
    pub(super) trouble: Trouble,
}

impl<T: Listed> Follower<T> for Forward<T> {
    async fn take(&mut self, event: Event<'_, T>) -> Result<(), Closed> {
        let fact = match event {
            Event::Started => Fact::Begin,
            Event::Page(objects) => Fact::There(objects),
            Event::Complete => Fact::End,
            Event::Applied(object) => Fact::There(vec![object]),
            Event::Deleted(object) => Fact::Gone(object),
            Event::Failed(failure) => {
                self.trouble.failed(failure);
                return Ok(());
            }
            Event::Works => {
                self.trouble.works();
                return Ok(());
            }
        };
        self.facts.send(fact).await.map_err(|_| Closed)
    }
}
