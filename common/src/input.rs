//! Files that commands read: single files, directories, standard input.

use std::fs;
use std::io::Read as _;
use std::path::{Path, PathBuf};

use mesh_core::limit::FILE_BYTES;

/// Maximum depth of directories: a link may lead to an ancestor.
const MAX_DEPTH: usize = 32;

/// A text, and its name for messages.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Input {
    /// Path as given, or `standard input`.
    pub name: String,
    /// The text, or why it cannot be read.
    pub text: Result<String, String>,
}

impl Input {
    /// Whether the name says that the text is JSON.
    #[must_use]
    pub fn is_json(&self) -> bool {
        Path::new(&self.name)
            .extension()
            .is_some_and(|extension| extension == "json")
    }
}

/// Reads `paths` in order: `-` is standard input; a directory stands for its YAML and JSON files,
/// ordered by name, with `recursive` also for those of its subdirectories. An unreadable path
/// becomes an input with the reason.
#[must_use]
pub fn read(paths: &[PathBuf], recursive: bool) -> Vec<Input> {
    let mut inputs = Vec::new();
    for path in paths {
        if path.as_os_str() == "-" {
            inputs.push(Input {
                name: "standard input".to_owned(),
                text: bounded(std::io::stdin().lock()),
            });
        } else if path.is_dir() {
            directory(path, recursive, MAX_DEPTH, &mut inputs);
        } else {
            inputs.push(file(path));
        }
    }
    inputs
}

fn file(path: &Path) -> Input {
    let text = fs::File::open(path)
        .map_err(|error| format!("the file cannot be read: {error}"))
        .and_then(bounded);
    Input {
        name: path.display().to_string(),
        text,
    }
}

fn bounded(source: impl std::io::Read) -> Result<String, String> {
    let mut bytes = Vec::new();
    source
        .take(FILE_BYTES + 1)
        .read_to_end(&mut bytes)
        .map_err(|error| format!("the file cannot be read: {error}"))?;
    if bytes.len() as u64 > FILE_BYTES {
        return Err(format!(
            "the file is too large, the limit is {FILE_BYTES} bytes: split it"
        ));
    }
    String::from_utf8(bytes).map_err(|error| {
        let at = error.utf8_error().valid_up_to();
        format!("the file is not UTF-8 text: byte {at} is invalid")
    })
}

fn directory(path: &Path, recursive: bool, depth: usize, inputs: &mut Vec<Input>) {
    let entries = fs::read_dir(path).and_then(Iterator::collect::<std::io::Result<Vec<_>>>);
    let mut entries = match entries {
        Ok(entries) if depth > 0 => entries,
        Ok(_) => return unreadable(path, "the directory is nested too deep", inputs),
        Err(error) => {
            return unreadable(
                path,
                &format!("the directory cannot be read: {error}"),
                inputs,
            );
        }
    };
    entries.sort_by_key(fs::DirEntry::file_name);
    for entry in entries {
        let path = entry.path();
        let read = path.extension().is_some_and(|extension| {
            ["yaml", "yml", "json"]
                .iter()
                .any(|known| extension == *known)
        });
        if path.is_dir() {
            if recursive {
                directory(&path, recursive, depth - 1, inputs);
            }
        } else if read {
            inputs.push(file(&path));
        }
    }
}

fn unreadable(path: &Path, reason: &str, inputs: &mut Vec<Input>) {
    inputs.push(Input {
        name: path.display().to_string(),
        text: Err(reason.to_owned()),
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn directories_are_read_in_order_and_only_what_is_configuration() {
        let root = tempfile::tempdir().unwrap();
        fs::create_dir(root.path().join("b")).unwrap();
        for name in ["c.yaml", "a.json", "b/x.yml", "notes.txt"] {
            fs::write(root.path().join(name), name).unwrap();
        }
        let names = |recursive: bool| -> Vec<String> {
            let inputs = read(&[root.path().to_owned()], recursive);
            inputs
                .into_iter()
                .map(|input| input.text.unwrap())
                .collect()
        };
        assert_eq!(names(true), ["a.json", "b/x.yml", "c.yaml"]);
        assert_eq!(names(false), ["a.json", "c.yaml"]);
        let missing = read(&[root.path().join("none.yaml")], true);
        assert!(
            missing[0]
                .text
                .as_ref()
                .unwrap_err()
                .contains("No such file")
        );
    }

    #[test]
    fn a_link_that_leads_back_up_ends() {
        let root = tempfile::tempdir().unwrap();
        std::os::unix::fs::symlink(root.path(), root.path().join("again")).unwrap();
        let inputs = read(&[root.path().to_owned()], true);
        assert!(inputs[0].text.as_ref().unwrap_err().contains("too deep"));
    }
}
