//! Exit codes, those of Istio 1.30.

/// The command failed, or found something wrong.
pub const FAILURE: u8 = 1;
/// The command line is not understood.
pub const USAGE: u8 = 64;
/// An input could not be read or is no YAML.
pub const UNREADABLE: u8 = 65;
/// Analysis found something at least as bad as `--failure-threshold` says.
pub const FOUND: u8 = 79;
