//! The writer: the one thread that owns the builder, the classes and the list of proxies.
//!
//! ```text
//! sources ──Command──► World ──► Builder ──► Snapshot + Changes
//!                        │                        │
//!                        │        classes ◄───────┘  update what the changes touch
//!                        ▼
//!        per proxy: watch::Sender<View> ──► its connection task
//! ```
//!
//! It is a thread, not a task, because building resources is computation. All other code reads
//! what it publishes: [`Published`] through an atomic pointer, views through a channel that keeps
//! only the newest.

pub mod command;
pub mod handle;
pub mod pace;
pub mod state;
pub mod views;
pub mod writer;

pub use command::{Batch, Command, FromCluster};
pub use handle::{Connection, Handle};
pub use pilot_networking::class::fleet::Accounts;
pub use state::{Published, World};

#[cfg(test)]
mod tests;
