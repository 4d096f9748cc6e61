//! Exit codes, as in Istio 1.30.

pub use mesh_common::process::USAGE;
pub use mesh_common::validate::UNREADABLE;

/// The command failed.
pub const FAILURE: u8 = 1;
/// The analysis found a message at or above `--failure-threshold`.
pub const FOUND: u8 = 79;
