//! Finds Envoy's protobuf tree in the unpacked `envoy-types` package.

use std::env;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::Result;

/// The package that ships Envoy's protobuf sources. Cargo.lock pins its checksum;
/// the feature below is never enabled, so it is fetched but not compiled.
const PACKAGE: &str = "envoy-types";
const VERSION: &str = "0.7.7";
const FEATURE: &str = "envoy-protos";

/// The `proto` directory of the package; cargo fetches it when it is not there yet.
pub(crate) fn envoy_protos(manifest_dir: &Path) -> Result<PathBuf> {
    let output = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--features", FEATURE])
        .args(["--filter-platform", &env::var("HOST")?])
        .arg("--manifest-path")
        .arg(manifest_dir.join("Cargo.toml"))
        .output()?;
    if !output.status.success() {
        return Err(format!(
            "cannot find the package {PACKAGE} {VERSION}, which holds Envoy's protobuf sources: \
             cargo metadata: {}",
            String::from_utf8_lossy(&output.stderr)
        )
        .into());
    }
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout)?;
    let text = |package: &serde_json::Value, name| package.get(name)?.as_str().map(str::to_owned);
    let package = metadata
        .get("packages")
        .and_then(|packages| packages.as_array())
        .into_iter()
        .flatten()
        .find(|package| text(package, "name").as_deref() == Some(PACKAGE))
        .ok_or_else(|| format!("cargo metadata lists no package {PACKAGE}"))?;
    let found = text(package, "version").unwrap_or_default();
    if found != VERSION {
        return Err(format!(
            "{PACKAGE} is {found} in Cargo.lock but {VERSION} in build/locate.rs: set both to the same version"
        )
        .into());
    }
    let manifest = text(package, "manifest_path").ok_or("cargo metadata: no manifest_path")?;
    Ok(Path::new(&manifest).with_file_name("proto"))
}
