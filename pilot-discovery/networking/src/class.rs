//! Classes of proxies with what they are sent, kept up to date by what changed.
//!
//! ```text
//! Snapshot ──► Outbound::update(changes) ──► per host: clusters, endpoints, virtual hosts
//!                       │                     per port: listeners
//!                       │                     per route name: assembly of its virtual hosts
//!                       ▼
//!                  Manifests (persistent sets; what did not change is shared)
//! ```
//!
//! Classes share a [`cache::Cache`], so that what is the same for several is made once.

pub mod cache;
pub mod dirt;
pub mod fleet;
pub mod group;
pub mod inbound;
pub mod outbound;
