//! The discovery server: turns configuration and services into Envoy configuration.
//!
//! ```text
//! config (MCP, files) ──► world (one writer) ──► views ──► xds (a task per stream) ──► Envoy
//!                              │                              │
//!                              ├────────► debug pages ◄───────┤
//!                              └────────► distribution ◄──────┘ ──► galley (reports)
//! ```

pub mod args;
pub mod config;
pub mod debug;
pub mod distribution;
pub mod metrics;
pub mod request;
pub mod run;
pub mod world;
pub mod xds;
