//! Configuration validation and distribution over MCP.
//!
//! ```text
//! files, or ─► source ─► state (one task) ─► debounce ─► Arc<Snapshot> ─► MCP streams
//! a cluster     what      galley_engine: which object       watch          mesh_common::mcp
//!               changed   is in force, what is made
//!                         from Services and Ingresses
//! ```
//!
//! The README of this folder has the flags, ports, messages and metrics.

pub mod access;
pub mod args;
mod certificate;
pub mod debug;
pub mod env;
pub mod mesh;
pub mod metrics;
pub mod probe;
pub mod run;
pub mod source;
pub mod state;
pub mod status;
pub mod webhook;
