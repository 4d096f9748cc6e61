//! Atomic file operations: a file is there as a whole or not at all, also after a power failure.

use std::fs::{self, DirBuilder, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, symlink};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU64, Ordering};

/// Mode of files with private keys.
pub(crate) const PRIVATE: u32 = 0o600;

/// Mode of files with certificates.
pub(crate) const PUBLIC: u32 = 0o644;

/// Creates the directory and its missing parents, with `mode`.
pub(crate) fn make_dir(path: &Path, mode: u32) -> io::Result<()> {
    DirBuilder::new().recursive(true).mode(mode).create(path)
}

fn parent(path: &Path) -> &Path {
    match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    }
}

fn sync_dir(path: &Path) -> io::Result<()> {
    File::open(path)?.sync_all()
}

/// A unique temporary name beside `path`.
fn beside(path: &Path) -> PathBuf {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let number = NUMBER.fetch_add(1, Ordering::Relaxed);
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    parent(path).join(format!(".{name}.{}.{number}", std::process::id()))
}

fn write(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let mut file = OpenOptions::new()
        .write(true)
        .create_new(true)
        .mode(mode)
        .open(path)?;
    file.write_all(content)?;
    file.sync_all()
}

/// Creates a file. Returns false, and leaves it unchanged, if it exists already.
pub(crate) fn create(path: &Path, content: &[u8], mode: u32) -> io::Result<bool> {
    let temporary = beside(path);
    let made =
        write(&temporary, content, mode).and_then(|()| match fs::hard_link(&temporary, path) {
            Ok(()) => Ok(true),
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
            Err(error) => Err(error),
        });
    let removed = fs::remove_file(&temporary);
    let made = made?;
    removed?;
    sync_dir(parent(path))?;
    Ok(made)
}

/// Writes a file atomically, replacing an existing one.
pub(crate) fn replace(path: &Path, content: &[u8], mode: u32) -> io::Result<()> {
    let temporary = beside(path);
    write(&temporary, content, mode)
        .and_then(|()| fs::rename(&temporary, path))
        .inspect_err(|_| {
            // The first error is the one to report.
            let _ = fs::remove_file(&temporary);
        })?;
    sync_dir(parent(path))
}

/// Name of the symbolic link to the current files of [`publish`].
const CURRENT: &str = "..data";

/// Replaces a set of files atomically: they are symbolic links into a hidden directory that is
/// swapped, like the kubelet's volumes. `files` are name, content and mode.
pub(crate) fn publish(dir: &Path, files: &[(&str, &[u8], u32)]) -> io::Result<()> {
    make_dir(dir, 0o755)?;
    let version = beside(&dir.join("version"));
    make_dir(&version, 0o755)?;
    for (name, content, mode) in files {
        write(&version.join(name), content, *mode)?;
    }
    sync_dir(&version)?;
    let current = dir.join(CURRENT);
    let previous = fs::read_link(&current).ok();
    let link = beside(&current);
    let target = version.file_name().unwrap_or_default();
    symlink(target, &link)?;
    fs::rename(&link, &current)?;
    for (name, _, _) in files {
        let path = dir.join(name);
        let target = Path::new(CURRENT).join(name);
        if fs::read_link(&path).ok().as_deref() != Some(&target) {
            let link = beside(&path);
            symlink(&target, &link)?;
            fs::rename(&link, &path)?;
        }
    }
    sync_dir(dir)?;
    if let Some(previous) = previous
        && Path::new(target) != previous
    {
        fs::remove_dir_all(dir.join(previous))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    fn mode(path: &Path) -> u32 {
        fs::metadata(path).unwrap().permissions().mode() & 0o777
    }

    #[test]
    fn create_never_overwrites() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ca-key.pem");
        assert!(create(&path, b"first", PRIVATE).unwrap());
        assert!(!create(&path, b"second", PRIVATE).unwrap());
        assert_eq!(fs::read(&path).unwrap(), b"first");
        assert_eq!(mode(&path), PRIVATE);
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
    }

    #[test]
    fn replace_leaves_nothing_beside() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("root-cert.pem");
        replace(&path, b"1", PUBLIC).unwrap();
        replace(&path, b"2", PUBLIC).unwrap();
        assert_eq!(fs::read(&path).unwrap(), b"2");
        assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 1);
        assert!(replace(&dir.path().join("none/x"), b"1", PUBLIC).is_err());
    }

    #[test]
    fn published_files_change_together() {
        let dir = tempfile::tempdir().unwrap();
        for version in ["1", "2", "3"] {
            let files: [(&str, &[u8], u32); 2] = [
                ("cert-chain.pem", version.as_bytes(), PUBLIC),
                ("key.pem", version.as_bytes(), PRIVATE),
            ];
            publish(dir.path(), &files).unwrap();
            assert_eq!(
                fs::read_to_string(dir.path().join("cert-chain.pem")).unwrap(),
                version
            );
            assert_eq!(
                fs::read_to_string(dir.path().join("key.pem")).unwrap(),
                version
            );
            assert_eq!(mode(&dir.path().join("key.pem")), PRIVATE);
            // Two links, the swapped link and one version.
            assert_eq!(fs::read_dir(dir.path()).unwrap().count(), 4);
        }
    }

    #[test]
    fn publish_takes_over_plain_files() {
        let dir = tempfile::tempdir().unwrap();
        fs::write(dir.path().join("key.pem"), "plain").unwrap();
        publish(dir.path(), &[("key.pem", b"new", PRIVATE)]).unwrap();
        assert_eq!(
            fs::read_to_string(dir.path().join("key.pem")).unwrap(),
            "new"
        );
    }
}
