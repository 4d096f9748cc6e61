//! Who runs in a state directory, and the clearing of what a crashed predecessor left.

use std::path::Path;

use anyhow::{Context, Result};
use serde::{Deserialize, Serialize};

use crate::layout::Layout;

/// Contents of the state file while a mesh is up.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RunState {
    /// Pid of the supervisor.
    pub pid: u32,
    /// Its start time in clock ticks since boot: with the pid it always names the same process.
    pub start_time: u64,
    /// Pid of the node as the host sees it.
    pub node_pid: u32,
}

/// Field 22 of `/proc/<pid>/stat`: when the process was started, in clock ticks since boot.
#[must_use]
pub fn start_time(pid: u32) -> Option<u64> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The command name may hold blanks; it ends at the last bracket.
    let rest = text.get(text.rfind(')')? + 1..)?;
    rest.split_ascii_whitespace().nth(19)?.parse().ok()
}

impl RunState {
    /// The state of the mesh in `layout`, if one runs there.
    ///
    /// # Errors
    /// When the file exists but cannot be read or understood.
    pub fn running(layout: &Layout) -> Result<Option<Self>> {
        let path = layout.state_file();
        let text = match std::fs::read(&path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error).with_context(|| format!("read {}", path.display())),
        };
        let state: Self = serde_json::from_slice(&text)
            .with_context(|| format!("understand {}; remove it if nothing runs", path.display()))?;
        Ok((start_time(state.pid) == Some(state.start_time)).then_some(state))
    }

    /// Writes the state file in one step.
    ///
    /// # Errors
    /// When the directory cannot be written.
    pub fn write(&self, layout: &Layout) -> Result<()> {
        let text = serde_json::to_vec_pretty(self).context("encode the state")?;
        write_atomically(&layout.state_file(), &text)
    }

    /// Removes the state file; it may be absent.
    ///
    /// # Errors
    /// When it exists and cannot be removed.
    pub fn remove(layout: &Layout) -> Result<()> {
        absent_or(std::fs::remove_file(layout.state_file())).context("remove the state file")
    }
}

/// Replaces `path` by a file with `contents`; readers see the old or the new one, whole.
///
/// # Errors
/// When the directory cannot be written.
pub fn write_atomically(path: &Path, contents: &[u8]) -> Result<()> {
    let name = path
        .file_name()
        .and_then(|name| name.to_str())
        .unwrap_or("file");
    let temporary = path.with_file_name(format!(".{name}.new"));
    std::fs::write(&temporary, contents)
        .with_context(|| format!("write {}", temporary.display()))?;
    std::fs::rename(&temporary, path).with_context(|| format!("put {} in place", path.display()))
}

/// Removes keys, configuration and the control socket of a mesh whose node has ended. What stays
/// are its logs, an empty mount point, and the node's settings, by which [`clear`] knows the
/// directory again.
///
/// # Errors
/// When something cannot be removed.
pub fn tidy(layout: &Layout) -> Result<()> {
    let shared = layout.shared();
    absent_or(std::fs::remove_dir_all(&shared))
        .with_context(|| format!("remove {}", shared.display()))?;
    absent_or(std::fs::remove_file(layout.control_socket())).context("remove the control socket")
}

fn absent_or(removed: std::io::Result<()>) -> std::io::Result<()> {
    match removed {
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        other => other,
    }
}

/// Removes what an ended mesh left in its directory. Nothing else can be left: namespaces,
/// cables, rules and mounts end with the node.
///
/// # Errors
/// When a mesh still runs there, or the directory is not one of ours, or cannot be cleared.
pub fn clear(layout: &Layout) -> Result<()> {
    if let Some(state) = RunState::running(layout)? {
        anyhow::bail!(
            "a mesh is already up (pid {}); `cargo mesh down` ends it, `cargo mesh status` shows it",
            state.pid
        );
    }
    let root = layout.root();
    if !root.exists() {
        return Ok(());
    }
    let ours = layout.node_config().exists() || std::fs::read_dir(root)?.next().is_none();
    anyhow::ensure!(
        ours,
        "{} holds something else: name another directory with --dir",
        root.display()
    );
    std::fs::remove_dir_all(root).with_context(|| format!("clear {}", root.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_state_of_another_process_is_not_running() {
        let directory = tempfile::tempdir().unwrap();
        let layout = Layout::new(directory.path().to_path_buf());
        assert!(RunState::running(&layout).unwrap().is_none());
        let own = std::process::id();
        let mut state = RunState {
            pid: own,
            start_time: start_time(own).unwrap(),
            node_pid: 0,
        };
        state.write(&layout).unwrap();
        assert!(RunState::running(&layout).unwrap().is_some());
        // The same pid, given to a later process.
        state.start_time += 1;
        state.write(&layout).unwrap();
        assert!(RunState::running(&layout).unwrap().is_none());
    }

    #[test]
    fn a_foreign_directory_is_not_cleared() {
        let directory = tempfile::tempdir().unwrap();
        let precious = directory.path().join("precious");
        std::fs::write(&precious, "x").unwrap();
        let layout = Layout::new(directory.path().to_path_buf());
        assert!(
            clear(&layout)
                .unwrap_err()
                .to_string()
                .contains("holds something else")
        );
        assert!(precious.exists());
    }
}
