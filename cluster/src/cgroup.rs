//! The control groups below which the kubelet puts its Pods: the one thing that outlives the
//! node's namespaces.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, Result, bail};

use crate::patience::{Seen, until};

/// Where control groups are mounted.
const ROOT: &str = "/sys/fs/cgroup";
/// A group can be removed a moment after its last process has ended.
const PATIENCE: Duration = Duration::from_secs(10);

/// The hierarchies: one each controller (version 1), or the one of version 2.
fn hierarchies() -> Result<Vec<PathBuf>> {
    let root = Path::new(ROOT);
    if root.join("cgroup.controllers").exists() {
        return Ok(vec![root.to_owned()]);
    }
    let mut found = Vec::new();
    for entry in fs::read_dir(root).with_context(|| format!("read {ROOT}"))? {
        let path = entry.with_context(|| format!("read {ROOT}"))?.path();
        // Links are second names of hierarchies.
        if path.is_dir() && !path.is_symlink() && path.join("cgroup.procs").exists() {
            found.push(path);
        }
    }
    if found.is_empty() {
        bail!("no control groups are mounted at {ROOT}");
    }
    Ok(found)
}

/// Makes the group `name` in every hierarchy.
///
/// # Errors
/// When they are not mounted or may not be written.
pub fn create(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        fs::create_dir_all(&group).with_context(|| format!("make {}", group.display()))?;
        // Without them no process may enter a group of version 1.
        for file in ["cpuset.cpus", "cpuset.mems"] {
            let (from, to) = (hierarchy.join(file), group.join(file));
            if from.exists() && to.exists() {
                fs::read(&from)
                    .and_then(|value| fs::write(&to, value))
                    .with_context(|| format!("set {}", to.display()))?;
            }
        }
    }
    Ok(())
}

/// Removes the group `name` and all below it; it may be absent.
///
/// # Errors
/// When processes are still in it after ten seconds.
pub fn remove(name: &str) -> Result<()> {
    for hierarchy in hierarchies()? {
        let group = hierarchy.join(name);
        until(&format!("remove {}", group.display()), PATIENCE, || {
            if !group.exists() {
                return Ok(Seen::There(()));
            }
            Ok(match remove_tree(&group) {
                Ok(()) => Seen::There(()),
                Err(error) => Seen::Not(error.to_string()),
            })
        })?;
    }
    Ok(())
}

/// Removes directories only: their files belong to the kernel and go with them.
fn remove_tree(directory: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(directory)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove_tree(&entry.path())?;
        }
    }
    fs::remove_dir(directory)
}
