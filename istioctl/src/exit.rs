//! Exit codes, those of Istio 1.30.

pub use mesh_common::process::USAGE;
pub use mesh_common::validate::UNREADABLE;

/// The command failed.
pub const FAILURE: u8 = 1;
/// Analysis found something at least as bad as `--failure-threshold` says.
pub const FOUND: u8 = 79;
