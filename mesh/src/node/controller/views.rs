//! What the controller publishes for the other parts of the node.

use std::net::SocketAddr;
use std::sync::Arc;

use tokio::sync::watch;

use crate::manifest::Key;
use crate::node::cluster_ip::ClusterIps;
use crate::node::dns::Table;
use crate::node::pod::status::PodStatus;
use crate::node::publish::Routes;

/// One Pod as clients see it.
#[derive(Clone, Debug)]
pub struct PodView {
    /// The object behind it.
    pub workload: Key,
    /// What it does.
    pub status: PodStatus,
}

/// All Pods at one moment.
#[derive(Clone, Debug, Default)]
pub struct ClusterView {
    /// Grows with each change.
    pub generation: u64,
    /// Whether every wanted Pod runs and is ready, and no other one is left.
    pub settled: bool,
    /// In order of namespace and name.
    pub pods: Vec<PodView>,
}

/// What the controller publishes for the other parts of the node.
#[derive(Debug)]
pub struct Views {
    /// All Pods.
    pub cluster: watch::Sender<Arc<ClusterView>>,
    /// Cluster DNS.
    pub names: watch::Sender<Arc<Table>>,
    /// Published addresses.
    pub routes: watch::Sender<Arc<Routes>>,
    /// ClusterIPs.
    pub cluster_ips: watch::Sender<Arc<ClusterIps>>,
    /// A ready injector.
    pub injector: watch::Sender<Option<SocketAddr>>,
    /// Counts changes of the store.
    pub generation: watch::Sender<u64>,
}

impl Views {
    /// Nothing is there yet.
    #[must_use]
    pub fn new() -> Self {
        Self {
            cluster: watch::Sender::default(),
            names: watch::Sender::default(),
            routes: watch::Sender::default(),
            cluster_ips: watch::Sender::default(),
            injector: watch::Sender::new(None),
            generation: watch::Sender::new(0),
        }
    }
}

impl Default for Views {
    fn default() -> Self {
        Self::new()
    }
}

/// Sends a value on if it is news.
pub(super) fn publish<T: PartialEq>(view: &watch::Sender<T>, value: T) {
    view.send_if_modified(|held| {
        let news = *held != value;
        if news {
            *held = value;
        }
        news
    });
}
