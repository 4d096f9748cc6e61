//! The environment variables that `cargo mesh` reads.

use std::ffi::OsString;
use std::path::PathBuf;

/// Path of the cargo to build with: `CARGO` as cargo sets it for what it runs, else `cargo`.
#[must_use]
pub fn cargo() -> OsString {
    std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into())
}

/// `CARGO_HOME`: where cargo keeps what it downloaded, else `.cargo` in the home directory.
#[must_use]
pub fn cargo_home() -> Option<PathBuf> {
    let given = std::env::var_os("CARGO_HOME").map(PathBuf::from);
    given.or_else(|| std::env::home_dir().map(|home| home.join(".cargo")))
}

/// `MESH_ENVOY`: an Envoy binary to use instead of the fetched one.
#[must_use]
pub fn envoy() -> Option<PathBuf> {
    std::env::var_os("MESH_ENVOY").map(PathBuf::from)
}

/// `MESH_DIR`: the state directory instead of `<target>/mesh`.
#[must_use]
pub fn state_dir() -> Option<PathBuf> {
    std::env::var_os("MESH_DIR").map(PathBuf::from)
}

/// `MESH_LOG`: log filter of the node, as `tracing` understands it.
#[must_use]
pub fn log_filter() -> String {
    std::env::var("MESH_LOG").unwrap_or_else(|_| "info".to_owned())
}
