//! The source: serves snapshots to sinks.

mod client;
mod connections;
mod health;
pub mod machine;
mod metrics;
mod server;
mod stream;
mod wire;

pub use super::admit::{Admission, Authorize, SharedAuthorize};
pub use client::{Client, ClientOptions, UNIMPLEMENTED_RETRY};
pub use connections::{ConnectionStatus, Connections};
pub use machine::{Dialect, Machine, Outgoing, Progress, Verdict};
pub use metrics::Metrics;
pub use server::{Options, Server};
pub use stream::{Snapshots, Source};
