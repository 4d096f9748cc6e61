//! Limits of configuration files.

/// Maximum size of a file, in bytes.
pub const FILE_BYTES: u64 = 16 << 20;
/// Maximum size of a document in a file, in bytes. (etcd accepts objects of 1.5 MiB.)
pub const DOCUMENT_BYTES: usize = 4 << 20;
