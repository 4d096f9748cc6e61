//! The Envoy that the tests use.

use std::path::PathBuf;

/// The program that `ENVOY_BIN` names; without it the test says that it is skipped.
pub(crate) fn binary(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped {test}: ENVOY_BIN does not name an Envoy");
    }
    found
}
