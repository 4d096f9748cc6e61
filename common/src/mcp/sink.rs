//! The sink: keeps collections equal to those of a source.

mod client;
mod dial;
pub mod machine;
mod metrics;

pub use client::{Client, Connect, Handle, Options, Request, Status, Updater};
pub use dial::{AddressError, Dial};
pub use machine::{Change, CollectionStatus, Dropped, Machine};
pub use metrics::Metrics;
