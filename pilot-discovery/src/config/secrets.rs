//! Where credentials of gateways come from.
//!
//! ```text
//! files      ──► directory ─┐                      ┌─► Command::Credential
//!                           ├─► content (rules) ───┤
//! API server ──► cluster ───┘                      └─► Command::Cluster
//! ```

pub mod cluster;
mod content;
pub mod directory;
