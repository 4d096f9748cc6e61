//! The sink: keeps collections equal to those of a source.

mod client;
pub mod machine;
mod metrics;
mod server;
mod take;

pub use super::dial::{AddressError, Connect, Dial};
pub use client::{Client, Handle, Options, Request, Status, Updater};
pub use machine::{Change, CollectionStatus, Dropped, Machine};
pub use metrics::Metrics;
pub use server::{Caller, Desk, Server, ServerOptions};
