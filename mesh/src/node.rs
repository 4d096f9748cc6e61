//! The node: what runs as pid 1 inside the mesh's own namespaces and plays the kubelet, the
//! API server's admission and the cluster DNS.

pub mod api;
pub mod cluster_ip;
pub mod config;
pub mod controller;
pub mod dns;
pub mod exec;
pub mod export;
pub mod image;
pub mod inject;
pub mod launch;
pub mod network;
pub mod pod;
pub mod publish;
pub mod report;
pub mod root;
pub mod run;
pub mod sandbox;
pub mod service;
pub mod store;
pub mod token;
pub mod usage;
pub mod workload;

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::{Context as _, Result};
use tokio::sync::{Notify, watch};

use crate::layout::Layout;

/// `spec.nodeName` of every Pod.
pub const NODE_NAME: &str = "mesh";
/// Annotation of control-plane Pods: files below [`pod::volume::SHARED`], separated by commas,
/// that must exist before the first container starts.
pub const AFTER_FILES: &str = "mesh.local/after-files";
/// Annotation of Services: host names outside of the cluster domain, separated by commas, that
/// lead to the Service's Pods. For playing the part of an external host.
pub const HOST_NAMES: &str = "mesh.local/host-names";
/// Label of namespaces whose Services and Pods are not exported to the control plane.
pub const OUTSIDE: &str = "mesh.local/outside";

/// What the parts of the node share.
#[derive(Debug)]
pub struct Context {
    /// Where files are.
    pub layout: Layout,
    /// Applied objects.
    pub store: store::Store,
    /// Signs tokens.
    pub issuer: token::Issuer,
    /// Address of a ready injector.
    pub injector: watch::Receiver<Option<SocketAddr>>,
    /// Wakes the controller.
    pub changed: Arc<Notify>,
    /// Counts changes of the store.
    pub generation: watch::Receiver<u64>,
    /// Counts changes of files below the shared directory that control-plane processes write.
    pub files: watch::Receiver<u64>,
    /// Processors of the machine.
    pub cpus: usize,
    /// Whether the user namespace has one id only.
    pub single_id: bool,
}

impl Context {
    /// Waits for a ready injector.
    ///
    /// # Errors
    /// When the node is ending.
    pub async fn injector_ready(&self) -> Result<SocketAddr> {
        let mut injector = self.injector.clone();
        let found = injector
            .wait_for(Option::is_some)
            .await
            .context("the node is ending")?;
        (*found).context("the injector went away")
    }
}
