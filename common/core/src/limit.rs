//! How much of configuration that people write is read.

/// A larger file is refused, in bytes.
pub const FILE_BYTES: u64 = 16 << 20;
/// A larger document of a file is refused, in bytes. (etcd takes objects of 1.5 MiB.)
pub const DOCUMENT_BYTES: usize = 4 << 20;
