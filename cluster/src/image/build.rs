//! `cargo xtask images`: builds the programs and writes one archive an image.

use std::path::{Path, PathBuf};
use std::process::Command;

use anyhow::{Context as _, Result};

use super::programs;
use super::set::{self, Source};
use mesh::say;
use mesh::start::{binaries, envoy};

/// Registry and path of images whose manifests name neither.
pub const HUB: &str = "docker.io/keelson";

#[derive(Debug, clap::Args)]
pub struct Args {
    /// Only these images
    #[arg(value_name = "IMAGE")]
    names: Vec<String>,
    /// Registry and path before the name of an image
    #[arg(long, default_value = HUB)]
    hub: String,
    /// Tag [default: the version of the workspace]
    #[arg(long)]
    tag: Option<String>,
    /// Directory for the archives [default: `images` in the target directory]
    #[arg(long, value_name = "DIR")]
    output: Option<PathBuf>,
    /// Programs as they are built for tests: quick to build, large
    #[arg(long)]
    debug: bool,
}

/// Builds and writes, and prints sizes and digests.
///
/// # Errors
/// When the build fails or a file cannot be written.
pub fn run(args: &Args, target: &Path) -> Result<()> {
    let directory = args.output.clone().unwrap_or_else(|| target.join("images"));
    let packages = set::packages(&args.names)?;
    let source = Source {
        programs: if args.debug {
            programs::development(target)?
        } else {
            programs::optimised(target, &packages)?
        },
        envoy: envoy::find(None, target)?,
        hub: args.hub.clone(),
        tag: args.tag.clone().unwrap_or_else(|| version().to_owned()),
        revision: revision(),
    };
    for (path, name, written) in write(&source, &args.names, &directory)? {
        say!(
            "{name:<18} {:>7.1} MB  {}  {}",
            written.size as f64 / 1e6,
            written.digest,
            path.display()
        );
    }
    Ok(())
}

/// Archives of every image from the programs of a development build.
///
/// # Errors
/// As [`run`].
pub fn development(target: &Path) -> Result<Vec<PathBuf>> {
    let source = debug_source(target)?;
    let written = write(&source, &[], &target.join("images/debug"))?;
    Ok(written.into_iter().map(|(path, ..)| path).collect())
}

/// Some images of a development build under another tag.
///
/// # Errors
/// As [`run`].
pub fn tagged(target: &Path, tag: &str, names: &[&str]) -> Result<Vec<PathBuf>> {
    let source = Source {
        tag: tag.to_owned(),
        ..debug_source(target)?
    };
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let written = write(&source, &names, &target.join("images/tagged"))?;
    Ok(written.into_iter().map(|(path, ..)| path).collect())
}

fn debug_source(target: &Path) -> Result<Source> {
    Ok(Source {
        programs: programs::development(target)?,
        envoy: envoy::find(None, target)?,
        hub: HUB.to_owned(),
        tag: version().to_owned(),
        revision: revision(),
    })
}

/// The tag of images and the version of everything.
#[must_use]
pub fn version() -> &'static str {
    env!("CARGO_PKG_VERSION")
}

type Row = (PathBuf, String, super::Written);

fn write(source: &Source, wanted: &[String], directory: &Path) -> Result<Vec<Row>> {
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let all: Vec<String> = set::names().map(str::to_owned).collect();
    let wanted = if wanted.is_empty() { &all } else { wanted };
    wanted
        .iter()
        .map(|name| {
            let path = directory.join(format!("{name}.tar"));
            let written = source.image(name)?.write(&path)?;
            Ok((path, name.clone(), written))
        })
        .collect()
}

/// The commit that is built, with a mark when files differ from it; empty outside of git.
fn revision() -> String {
    let ask = |arguments: &[&str]| {
        let output = Command::new("git")
            .arg("-C")
            .arg(binaries::workspace())
            .args(arguments)
            .output()
            .ok()?;
        output
            .status
            .success()
            .then(|| String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    match (ask(&["rev-parse", "HEAD"]), ask(&["status", "--porcelain"])) {
        (Some(commit), Some(changes)) if changes.is_empty() => commit,
        (Some(commit), _) => format!("{commit}-dirty"),
        (None, _) => String::new(),
    }
}
