//! The source: serves snapshots to sinks.

mod client;
mod connections;
mod health;
mod metrics;
mod server;
mod stream;

pub use super::admit::{Admission, Authorize, SharedAuthorize};
pub use client::{Client, ClientOptions, UNIMPLEMENTED_RETRY};
pub use connections::{ConnectionStatus, Connections};
pub use metrics::Metrics;
pub use server::{Options, Server};
pub use stream::{Snapshots, Source};
