//! Load on galley: many objects in a directory, many sinks.
//!
//! ```text
//! fixture ──files──► galley (own process) ◄──MCP── sinks (one task each)
//!    └─ changes             └─ /proc: CPU, memory        └─ first snapshot, each change
//! ```

pub mod fixture;
pub mod run;
pub mod sink;
pub mod table;
