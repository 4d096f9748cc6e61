//! What a dynamically linked program needs besides itself: the loader and shared libraries.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use super::Entry;

/// The loader and libraries of `programs`, each at the path by which it is looked for.
///
/// # Errors
/// When `ldd` fails, or a library is missing here.
pub fn libraries(programs: &[&Path]) -> Result<Vec<Entry>> {
    let mut found = BTreeSet::new();
    for program in programs {
        let output = Command::new("ldd")
            .arg(program)
            .env("LC_ALL", "C")
            .output()
            .context("start ldd (package libc-bin)")?;
        let text = String::from_utf8_lossy(&output.stdout);
        let said = String::from_utf8_lossy(&output.stderr);
        if said.contains("not a dynamic executable") || text.contains("statically linked") {
            continue;
        }
        ensure!(
            output.status.success(),
            "ldd {}: {}",
            program.display(),
            said.trim()
        );
        for line in text.lines() {
            found.extend(library(line).with_context(|| format!("{}", program.display()))?);
        }
    }
    found
        .iter()
        .map(|path| {
            let name = path.to_str().context("a library's path is not UTF-8")?;
            // Reading follows the link from the short name to the file.
            Entry::program(name, path)
        })
        .collect()
}

/// The file that a line of `ldd` names; none for what the kernel itself provides.
fn library(line: &str) -> Result<Option<PathBuf>> {
    let line = line.trim();
    ensure!(!line.ends_with("not found"), "library {line}");
    let path = match line.split_once(" => ") {
        Some((_, path)) => path,
        None => line,
    };
    Ok(path
        .starts_with('/')
        .then(|| path.split_ascii_whitespace().next().unwrap_or(path).into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_ldd_are_understood() {
        let path = |line| library(line).unwrap();
        assert_eq!(
            path("\tlibc.so.6 => /lib/x86_64-linux-gnu/libc.so.6 (0x00007f)"),
            Some("/lib/x86_64-linux-gnu/libc.so.6".into())
        );
        assert_eq!(
            path("\t/lib64/ld-linux-x86-64.so.2 (0x00007f)"),
            Some("/lib64/ld-linux-x86-64.so.2".into())
        );
        assert_eq!(path("\tlinux-vdso.so.1 (0x00007f)"), None);
        assert!(library("\tlibx.so.1 => not found").is_err());
    }
}
