//! The tree on disk: which files exist, and whether their metadata has changed.

use std::collections::BTreeMap;
use std::fs::{self, File, Metadata};
use std::io::{self, Read};
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use super::limit;
use galley_engine::problem::{Problem, effect};
use mesh_core::limit::FILE_BYTES;

/// Metadata of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Stat {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
    changed: (i64, i64),
}

impl Stat {
    fn new(metadata: &Metadata) -> Self {
        Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            bytes: metadata.len(),
            modified: (metadata.mtime(), metadata.mtime_nsec()),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        }
    }

    /// Device and inode: tell another directory of the same name apart.
    pub(super) fn identity(&self) -> (u64, u64) {
        (self.device, self.inode)
    }
}

/// Metadata of the root, if it exists. A root that is a link is followed.
pub(super) fn root(path: &Path) -> io::Result<Stat> {
    fs::metadata(path).map(|metadata| Stat::new(&metadata))
}

/// The result of a walk below a path.
#[derive(Debug, Default)]
pub(super) struct Tree {
    /// Files by path relative to the root; an error for those whose metadata cannot be read.
    pub(super) files: BTreeMap<Arc<Path>, io::Result<Stat>>,
    /// Unreadable directories: what is known below them stays.
    pub(super) unreadable: Vec<(PathBuf, io::Error)>,
    /// Whether there are more than [`limit::FILES`].
    pub(super) too_many: bool,
}

/// Whether a name is hidden: names that Kubernetes uses to swap mounted volumes, and those of
/// editors.
pub(super) fn is_hidden(name: &str) -> bool {
    name.starts_with('.')
}

/// Whether a name is that of a configuration file.
pub(super) fn is_config(name: &str) -> bool {
    let extension = Path::new(name)
        .extension()
        .and_then(|extension| extension.to_str());
    !is_hidden(name) && matches!(extension, Some("yaml" | "yml" | "json"))
}

/// Walks everything below `root`/`below`. Links to files are followed, links to directories are
/// not. `root` itself may be a file.
pub(super) fn walk(root: &Path, below: &Path) -> Tree {
    let mut tree = Tree::default();
    let mut pending = vec![below.to_path_buf()];
    while let Some(relative) = pending.pop() {
        let directory = join(root, &relative);
        let entries = match fs::read_dir(&directory) {
            Ok(entries) => entries,
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            Err(error) if error.kind() == io::ErrorKind::NotADirectory => {
                if relative.as_os_str().is_empty() {
                    tree.files.insert(Path::new("").into(), stat(&directory));
                }
                continue;
            }
            Err(error) => {
                tree.unreadable.push((relative, error));
                continue;
            }
        };
        for entry in entries {
            let entry = match entry {
                Ok(entry) => entry,
                Err(error) => {
                    tree.unreadable.push((relative.clone(), error));
                    break;
                }
            };
            let name = entry.file_name();
            let Some(name) = name.to_str().filter(|name| !is_hidden(name)) else {
                continue;
            };
            let path = relative.join(name);
            match entry.file_type() {
                Ok(kind) if kind.is_dir() => pending.push(path),
                _ if !is_config(name) => {}
                Ok(_) => {
                    if tree.files.len() >= limit::FILES {
                        tree.too_many = true;
                        return tree;
                    }
                    let full = entry.path();
                    // Links to directories are skipped, whatever their names.
                    if !full.is_dir() {
                        tree.files.insert(path.into(), stat(&full));
                    }
                }
                Err(error) => {
                    tree.files.insert(path.into(), Err(error));
                }
            }
        }
    }
    tree
}

/// `root`/`relative`, where the empty path is the root itself.
pub(super) fn join(root: &Path, relative: &Path) -> PathBuf {
    if relative.as_os_str().is_empty() {
        root.to_path_buf()
    } else {
        root.join(relative)
    }
}

/// Reads the metadata of one file, following links.
pub(super) fn stat(path: &Path) -> io::Result<Stat> {
    fs::metadata(path).map(|metadata| Stat::new(&metadata))
}

/// Reads a file as text, at most [`FILE_BYTES`] of it, whatever its metadata says.
pub(super) fn read(root: &Path, relative: &Arc<Path>) -> Result<String, Problem> {
    let problem = |message: String| Problem::file(relative, message, effect::LAST_GOOD_FILE);
    let unreadable = |error: io::Error| problem(format!("the file cannot be read: {error}"));
    let path = join(root, relative);
    let metadata = fs::metadata(&path).map_err(unreadable)?;
    if !metadata.is_file() {
        return Err(problem("it is not a regular file".to_owned()));
    }
    let too_large = |bytes: u64| {
        problem(format!(
            "the file has {bytes} bytes, the limit is {}: split it",
            FILE_BYTES
        ))
    };
    if metadata.len() > FILE_BYTES {
        return Err(too_large(metadata.len()));
    }
    let file = File::open(&path).map_err(unreadable)?;
    let mut bytes = Vec::with_capacity(usize::try_from(metadata.len()).unwrap_or_default());
    // It may have grown meanwhile.
    let read = file
        .take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(unreadable)?;
    if read as u64 > FILE_BYTES {
        return Err(too_large(read as u64));
    }
    String::from_utf8(bytes).map_err(|error| {
        let position = error.utf8_error().valid_up_to();
        problem(format!(
            "the file is not UTF-8 text: byte {position} is invalid"
        ))
    })
}
