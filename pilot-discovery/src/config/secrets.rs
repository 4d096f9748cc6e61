//! Sources of gateway credentials.
//!
//! ```text
//! files      ──► directory ─┐                      ┌─► Command::Credential
//!                           ├─► content (rules) ───┤
//! API server ──► cluster ───┘                      └─► Command::Cluster
//! ```

pub mod cluster;
mod content;
pub mod directory;
