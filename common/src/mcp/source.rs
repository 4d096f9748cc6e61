//! The source: serves snapshots to sinks.

mod connections;
pub mod machine;
mod metrics;
mod server;
mod stream;

pub use connections::{ConnectionStatus, Connections};
pub use machine::{Machine, Outgoing, Progress, Verdict};
pub use metrics::Metrics;
pub use server::{Authorize, Options, Server, SharedAuthorize};
pub use stream::Snapshots;
