//! Messages to the writer.

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
    /// `None` if it was deleted.
    pub object: Option<Object>,
}

/// Objects that changed together.
#[derive(Clone, Debug, Default)]
pub struct Batch {
    pub changes: Vec<Change>,
    /// The batch contains all objects of this collection: any other one was deleted.
    pub full: Option<&'static Collection>,
}

/// Updates from the cluster about Secrets.
#[derive(Debug)]
pub enum FromCluster {
    /// There is a cluster. To be sent before proxies connect.
    Followed,
    Credential {
        key: ObjectKey,
        credential: Option<Credential>,
    },
    /// The new content of a Secret is invalid.
    Faulty { key: ObjectKey, fault: String },
    /// The namespace is no longer followed.
    Forget(Arc<str>),
    /// Whether the account may receive the Secrets of its namespace; `None`: unknown.
    Right {
        account: Account,
        right: Option<bool>,
    },
}

/// A function that inspects the state of the writer.
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
    /// A change of a credential in the directory.
    Credential {
        key: ObjectKey,
        credential: Option<Credential>,
    },
    Cluster(FromCluster),
    /// All sources have delivered their initial content.
    Synced,
    Connect {
        id: u64,
        proxy: Box<Proxy>,
        reply: oneshot::Sender<watch::Receiver<View>>,
    },
    Disconnect {
        id: u64,
    },
    /// Runs a function in the writer, e.g. for a debug page.
    Inspect(Inspection),
}
