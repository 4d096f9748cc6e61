//! Commands to the writer.

use std::sync::Arc;

use istio_api::{collections::Collection, object::Object};
use pilot_model::{
    credential::{Account, Credential},
    key::ObjectKey,
    mesh::Mesh,
    proxy::Proxy,
};
use tokio::sync::{oneshot, watch};

use pilot_xds::view::View;

/// One changed object.
#[derive(Clone, Debug)]
pub struct Change {
    pub collection: &'static Collection,
    pub key: ObjectKey,
    /// `None` when it is gone.
    pub object: Option<Object>,
}

/// Objects that changed together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// This batch holds all objects of the collection: what it does not name is gone.
    pub full: Option<&'static Collection>,
}

/// What is known of the Secrets of the cluster.
#[derive(Debug)]
pub enum FromCluster {
    /// There is a cluster. To be sent before proxies come.
    Followed,
    Credential {
        key: ObjectKey,
        credential: Option<Credential>,
    },
    /// What it is now cannot be used.
    Faulty { key: ObjectKey, fault: String },
    /// The namespace is not followed any more.
    Forget(Arc<str>),
    /// Whether the account may be sent what its namespace has; `None`: it is not known.
    Right {
        account: Account,
        right: Option<bool>,
    },
}

/// A inspection into the writer.
pub struct Inspection(pub Box<dyn FnOnce(&super::state::World) + Send>);

impl std::fmt::Debug for Inspection {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Inspection")
    }
}

/// A message to the writer.
#[derive(Debug)]
pub enum Command {
    Apply(Batch),
    Mesh(Box<Mesh>),
    /// Of the directory.
    Credential {
        key: ObjectKey,
        credential: Option<Credential>,
    },
    Cluster(FromCluster),
    /// All sources delivered their first state.
    Synced,
    Connect {
        id: u64,
        proxy: Box<Proxy>,
        reply: oneshot::Sender<watch::Receiver<View>>,
    },
    Disconnect {
        id: u64,
    },
    /// Runs something that only the writer can see, e.g. a debug page.
    Inspect(Inspection),
}
