//! Where a cluster keeps its files: one directory below `target/cluster`.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result};
use serde::{Deserialize, Serialize};

/// Paths below the directory of one cluster. Nothing outside of it is written.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Layout {
    root: PathBuf,
}

impl Layout {
    /// A layout below `root`, which must be absolute and not below `/run`, `/var/lib` or
    /// `/var/log`: the node mounts file systems of its own there.
    #[must_use]
    pub fn new(root: PathBuf) -> Self {
        Self { root }
    }

    /// The directory itself.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// What the node was started with (JSON).
    #[must_use]
    pub fn settings(&self) -> PathBuf {
        self.root.join("node.json")
    }

    /// Who runs (JSON); absent when nobody does.
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.root.join("state.json")
    }

    /// The administrator's credentials.
    #[must_use]
    pub fn kubeconfig(&self) -> PathBuf {
        self.root.join("kubeconfig")
    }

    /// Keys and certificates.
    #[must_use]
    pub fn pki(&self) -> PathBuf {
        self.root.join("pki")
    }

    /// Settings of the node's programs.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.root.join("config")
    }

    /// Logs of the node's programs, `<program>.log`.
    #[must_use]
    pub fn logs(&self) -> PathBuf {
        self.root.join("log")
    }

    /// Logs of containers, which stay when the cluster ends.
    #[must_use]
    pub fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    /// Unpacked images.
    #[must_use]
    pub fn containerd(&self) -> PathBuf {
        self.root.join("containerd")
    }

    /// While it holds a file with the name of a program, that program does not run.
    #[must_use]
    pub fn stopped(&self) -> PathBuf {
        self.root.join("stopped")
    }

    /// Helm's own files.
    #[must_use]
    pub fn helm(&self) -> PathBuf {
        self.root.join("helm")
    }

    /// Removes what an ended cluster left in its directory, but for its logs.
    ///
    /// # Errors
    /// When a directory cannot be removed.
    pub fn tidy(&self) -> Result<()> {
        for directory in [self.containerd(), self.pki(), self.helm()] {
            remove(&directory)?;
        }
        Ok(())
    }
}

/// Removes a directory, which may be absent, with everything in it.
pub(crate) fn remove(directory: &Path) -> Result<()> {
    match fs::remove_dir_all(directory) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("remove {}", directory.display()))
        }
        _ => Ok(()),
    }
}
