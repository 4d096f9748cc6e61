//! The sink: keeps collections equal to those of a source.

mod client;
mod metrics;
mod server;
mod take;
mod updater;

pub use super::dial::{AddressError, Connect, Dial};
pub use client::{Client, Handle, Options, Request, Status};
pub use metrics::Metrics;
pub use server::{Caller, Desk, Server, ServerOptions};
pub use updater::Updater;
