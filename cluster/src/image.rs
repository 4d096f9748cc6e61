//! Container images, written without a daemon: the same files give the same bytes.
//!
//! An archive is an OCI layout and a Docker archive at once, as `docker save` writes them, so
//! that containerd, Docker and Podman load it alike.

mod archive;
pub mod build;
pub mod closure;
mod programs;
pub mod set;

use std::collections::BTreeMap;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use anyhow::{Context as _, Result};

/// One file, directory or link of an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    path: String,
    kind: Kind,
}

#[derive(Clone, Debug, PartialEq, Eq)]
enum Kind {
    File { bytes: Vec<u8>, mode: u32 },
    Directory { mode: u32 },
    Link { target: String },
}

impl Entry {
    /// A file at the absolute `path`, owned by root.
    #[must_use]
    pub fn file(path: &str, bytes: Vec<u8>, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::File { bytes, mode },
        }
    }

    /// An executable copied from `source`.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn program(path: &str, source: &Path) -> Result<Self> {
        let bytes = std::fs::read(source).with_context(|| format!("read {}", source.display()))?;
        Ok(Self::file(path, bytes, 0o755))
    }

    /// A directory at the absolute `path`. Those on the way to other entries need not be named.
    #[must_use]
    pub fn directory(path: &str, mode: u32) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::Directory { mode },
        }
    }

    /// A symbolic link.
    #[must_use]
    pub fn link(path: &str, target: &str) -> Self {
        Self {
            path: path.to_owned(),
            kind: Kind::Link {
                target: target.to_owned(),
            },
        }
    }
}

/// What an image is made of.
#[derive(Clone, Debug, Default)]
pub struct Image {
    /// Full reference: registry, path and tag.
    pub name: String,
    /// Files; of two with one path the later counts.
    pub entries: Vec<Entry>,
    /// Program and first arguments.
    pub entry_point: Vec<String>,
    /// `uid:gid`; empty: root.
    pub user: String,
    /// Environment, besides `PATH`.
    pub env: BTreeMap<String, String>,
    /// Labels, by OCI's names (`org.opencontainers.image.…`).
    pub labels: BTreeMap<String, String>,
}

/// What came of writing an image.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// Digest of the manifest (`sha256:…`), by which registries know the image.
    pub digest: String,
    /// Bytes of its files, unpacked.
    pub size: u64,
}

impl Image {
    /// Writes the archive to `path`, whole or not at all.
    ///
    /// # Errors
    /// When the file cannot be written or a path does not fit into an archive.
    pub fn write(&self, path: &Path) -> Result<Written> {
        let directory = path.parent().context("an archive needs a directory")?;
        let mut staging = tempfile::Builder::new()
            .permissions(std::fs::Permissions::from_mode(0o644))
            .tempfile_in(directory)
            .with_context(|| format!("write to {}", directory.display()))?;
        let written = archive::write(self, staging.as_file_mut())
            .with_context(|| format!("write image {}", self.name))?;
        staging
            .persist(path)
            .with_context(|| format!("put {} in place", path.display()))?;
        Ok(written)
    }
}
