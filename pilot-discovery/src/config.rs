//! Where configuration comes from. Every source ends in commands to the writer.

pub mod dir;
pub mod mcp;
pub mod mesh;
pub mod secrets;
