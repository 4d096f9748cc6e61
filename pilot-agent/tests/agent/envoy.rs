//! The Envoy binary of the tests.

use std::path::PathBuf;

/// The program in `ENVOY_BIN`; without it the test reports that it is skipped.
pub(crate) fn binary(test: &str) -> Option<PathBuf> {
    let found = std::env::var_os("ENVOY_BIN").map(PathBuf::from);
    if found.is_none() {
        eprintln!("skipped {test}: ENVOY_BIN is not set to an Envoy binary");
    }
    found
}
