//! Runtime parts that the processes share: arguments, logs, metrics, life cycle, TLS and gRPC.
//!
//! The README of this folder shows how a process is built from these parts.

#![deny(missing_docs)]

pub mod admin;
pub mod admission;
pub mod app;
pub mod args;
pub mod backoff;
pub mod ctrlz;
pub mod drain;
pub mod fswatch;
pub mod grpc;
pub mod input;
pub mod kubeclient;
pub mod lease;
pub mod list_watch;
pub mod log;
pub mod mcp;
pub mod metrics;
pub mod owner;
pub mod process;
pub mod readiness;
pub mod signal;
pub mod tasks;
#[cfg(feature = "testing")]
pub mod testing;
pub mod tls;
pub mod validate;
pub mod version;

#[doc(hidden)]
pub use tikv_jemallocator::Jemalloc;

/// Makes jemalloc the allocator of the binary: one line in each `main.rs`.
#[macro_export]
macro_rules! allocator {
    () => {
        #[global_allocator]
        static ALLOCATOR: $crate::Jemalloc = $crate::Jemalloc;
    };
}
