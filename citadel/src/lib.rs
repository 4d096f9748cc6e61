//! Certificate authority of the mesh: authenticates callers and signs their certificates.

mod args;
pub mod authenticate;
pub mod ca;
mod cluster;
mod control_plane;
mod debug;
mod metrics;
mod probe;
mod run;
mod server;
mod settings;
pub mod store;

pub use args::{Args, Command};
pub use cluster::Timing;
pub use run::{Bound, Listeners, start};
