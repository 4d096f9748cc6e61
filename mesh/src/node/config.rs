//! What the node is started with, handed over as a JSON file.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// Settings of a node process.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct NodeConfig {
    /// Where everything is kept.
    pub layout: Layout,
    /// Programs that containers find in `/usr/local/bin`: name to path on the host.
    pub binaries: BTreeMap<String, PathBuf>,
    /// Addresses to publish on the host's loopback.
    pub publish: Vec<Publish>,
    /// Log filter of the node.
    pub log_filter: String,
}

/// A Service port that is reachable from the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Publish {
    /// Namespace of the Service.
    pub namespace: String,
    /// Name of the Service.
    pub service: String,
    /// Name of the Service port, empty when it has none.
    pub port_name: String,
    /// Number of the Service port.
    pub port: u16,
    /// Preferred port on 127.0.0.1.
    pub listen: u16,
}

/// A published address: which Service port is reached where on the host.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Published {
    /// What was asked for.
    pub target: Publish,
    /// Where the host's listener is.
    pub address: SocketAddr,
}

impl NodeConfig {
    /// Reads the file that [`Self::write`] wrote.
    ///
    /// # Errors
    /// When it cannot be read or understood.
    pub fn read(path: &Path) -> Result<Self> {
        let text = std::fs::read(path).with_context(|| format!("read {}", path.display()))?;
        serde_json::from_slice(&text).with_context(|| format!("understand {}", path.display()))
    }

    /// Writes the settings into the layout's file for them and returns its path.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn write(&self) -> Result<PathBuf> {
        let path = self.layout.node_config();
        let text = serde_json::to_vec_pretty(self).context("encode the node's settings")?;
        std::fs::write(&path, text).with_context(|| format!("write {}", path.display()))?;
        Ok(path)
    }
}
