//! Building the programs that the containers run.

use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use anyhow::{Context as _, Result, bail};
use serde_json::Value;

use crate::node::image::BINARIES;

/// The workspace of the sources that this program was built from.
#[must_use]
pub fn workspace() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The target directory that this program was built in.
///
/// # Errors
/// When it is not in one.
pub fn target_directory() -> Result<PathBuf> {
    let own = std::env::current_exe().context("find the own program")?;
    let found = own
        .ancestors()
        .nth(2)
        .context("the own program is in no target directory")?;
    Ok(found.to_owned())
}

/// Builds every binary; cargo shows its own progress. Returns name to path.
///
/// # Errors
/// When cargo fails or leaves a binary out.
pub fn build(release: bool) -> Result<BTreeMap<String, PathBuf>> {
    let built = build_profile(if release { "release" } else { "dev" })?;
    select(|package| built.get(package).cloned())
}

/// Builds the binary of one package in the development profile and returns its path.
///
/// # Errors
/// When cargo fails or the package has no binary of its name.
pub fn build_package(package: &str) -> Result<PathBuf> {
    let mut built = build_profile("dev")?;
    built
        .remove(package)
        .with_context(|| format!("package {package} has no binary of its name"))
}

/// Builds every binary of the workspace in one of cargo's profiles. Returns name to path.
///
/// # Errors
/// When cargo fails.
pub fn build_profile(profile: &str) -> Result<BTreeMap<String, PathBuf>> {
    build_programs(profile, &[], None)
}

/// As [`build_profile`], `only` these binaries if any is named, and with these flags of the compiler
/// and no others if they are given.
///
/// # Errors
/// When cargo fails.
pub fn build_programs(
    profile: &str,
    only: &[&str],
    flags: Option<&[String]>,
) -> Result<BTreeMap<String, PathBuf>> {
    let mut cargo = Command::new(crate::env::cargo());
    cargo
        .arg("build")
        .arg("--message-format=json-render-diagnostics")
        .arg("--manifest-path")
        .arg(workspace().join("Cargo.toml"))
        // A part of the workspace would be built with other features, and all of it twice.
        .arg("--workspace")
        .arg("--profile")
        .arg(profile)
        .stdout(Stdio::piped());
    if only.is_empty() {
        cargo.arg("--bins");
    }
    for name in only {
        cargo.args(["--bin", name]);
    }
    if let Some(flags) = flags {
        cargo.env("CARGO_ENCODED_RUSTFLAGS", flags.join("\u{1f}"));
    }
    let mut child = cargo.spawn().context("start cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut built = BTreeMap::new();
    for line in BufReader::new(output).lines() {
        let line = line.context("read cargo's output")?;
        if let Some((name, path)) = executable(&line) {
            built.insert(name, path);
        }
    }
    if !child.wait().context("wait for cargo")?.success() {
        bail!("the build failed; the messages of cargo are above");
    }
    Ok(built)
}

/// The binaries of an earlier build in `directory`.
///
/// # Errors
/// When one is missing.
pub fn existing(directory: &Path) -> Result<BTreeMap<String, PathBuf>> {
    select(|package| Some(directory.join(package)).filter(|path| path.is_file()))
        .with_context(|| format!("in {}: build without --no-build", directory.display()))
}

fn select(find: impl Fn(&str) -> Option<PathBuf>) -> Result<BTreeMap<String, PathBuf>> {
    BINARIES
        .iter()
        .map(|(name, package)| {
            let path = find(package).with_context(|| format!("binary {package} was not built"))?;
            Ok(((*name).to_owned(), path))
        })
        .collect()
}

/// Name and path of the program that a message of cargo tells of.
fn executable(line: &str) -> Option<(String, PathBuf)> {
    let message: Value = serde_json::from_str(line).ok()?;
    let path = message.get("executable")?.as_str()?;
    let name = message.get("target")?.get("name")?.as_str()?;
    Some((name.to_owned(), path.into()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_of_cargo_are_understood() {
        let line =
            r#"{"reason":"compiler-artifact","target":{"name":"galley"},"executable":"/t/galley"}"#;
        assert_eq!(
            executable(line),
            Some(("galley".to_owned(), "/t/galley".into()))
        );
        assert_eq!(
            executable(r#"{"target":{"name":"x"},"executable":null}"#),
            None
        );
        assert_eq!(executable("not json"), None);
    }
}
