//! The source: serves snapshots to sinks.

mod client;
mod connections;
mod health;
pub mod machine;
mod metrics;
mod server;
mod stream;
mod wire;

pub use client::{Client, ClientOptions};
pub use connections::{ConnectionStatus, Connections};
pub use machine::{Dialect, Machine, Outgoing, Progress, Verdict};
pub use metrics::Metrics;
pub use server::{Authorize, Options, Server, SharedAuthorize};
pub use stream::Snapshots;
