//! Sources of configuration. Each sends commands to the writer.

pub mod dir;
pub mod mcp;
pub mod mesh;
pub mod secrets;
