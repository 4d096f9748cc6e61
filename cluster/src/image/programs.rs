//! The programs that go into images.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result, ensure};

use mesh::env;
use mesh::start::binaries;

/// Cargo's profile for images that are meant to leave this machine: optimised, without symbols.
const PROFILE: &str = "image";

/// Optimised programs of these packages, by name. Nothing in them tells where they were built, or the
/// same commit would give another digest elsewhere.
///
/// # Errors
/// When the build fails.
pub(super) fn optimised(
    target: &Path,
    packages: &BTreeSet<&str>,
) -> Result<BTreeMap<String, PathBuf>> {
    // The directories of sources have to be there to be named.
    let fetch = Command::new(env::cargo())
        .args(["fetch", "--locked", "--manifest-path"])
        .arg(binaries::workspace().join("Cargo.toml"))
        .status()
        .context("start cargo")?;
    ensure!(
        fetch.success(),
        "cargo fetch failed; its messages are above"
    );
    // The last that fits counts, and the target directory may lie in the workspace.
    let mut flags = vec![
        remap(binaries::workspace(), "/keelson"),
        remap(target, "/target"),
    ];
    for source in sources()? {
        flags.push(remap(&source, "/registry"));
    }
    let only: Vec<&str> = packages.iter().copied().collect();
    binaries::build_programs(PROFILE, &only, Some(&flags))
}

/// Where cargo unpacks crates: a directory for each registry, named after its address. None when they
/// come from elsewhere, such as the workspace.
fn sources() -> Result<Vec<PathBuf>> {
    let all = env::cargo_home()
        .context("neither CARGO_HOME nor a home directory is known")?
        .join("registry/src");
    if !all.exists() {
        return Ok(Vec::new());
    }
    let entries = std::fs::read_dir(&all).with_context(|| format!("read {}", all.display()))?;
    let mut found = Vec::new();
    for entry in entries {
        found.push(entry.context("read a directory of crates")?.path());
    }
    found.sort();
    Ok(found)
}

fn remap(from: &Path, to: &str) -> String {
    format!("--remap-path-prefix={}={to}", from.display())
}

/// The programs of a development build without their symbols, which are most of them.
///
/// # Errors
/// When the build fails, or `strip` does.
pub(super) fn development(target: &Path) -> Result<BTreeMap<String, PathBuf>> {
    let directory = target.join("images/programs");
    std::fs::create_dir_all(&directory).with_context(|| format!("make {}", directory.display()))?;
    let mut programs = BTreeMap::new();
    for (name, program) in binaries::build_profile("dev")? {
        let copy = directory.join(&name);
        let output = Command::new("strip")
            .arg("-o")
            .arg(&copy)
            .arg(&program)
            .output()
            .context("start strip (package binutils)")?;
        ensure!(
            output.status.success(),
            "strip {}: {}",
            program.display(),
            String::from_utf8_lossy(&output.stderr).trim()
        );
        programs.insert(name, copy);
    }
    Ok(programs)
}
