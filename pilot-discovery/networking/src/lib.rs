//! Envoy resources from a snapshot.
//!
//! Every generator has the same three steps, so that what it may read is what its cache key
//! holds:
//!
//! ```text
//! gather(client, what) ──► Inputs (references, all of them) ──► key() ──► cache hit: shared bytes
//!                                                             └─► build() ──► Resource (encoded)
//! ```
//!
//! A generator is a pure function: no clock, no randomness, no logging; the same inputs give the
//! same bytes in every process.

pub mod class;
pub mod cluster;
pub mod config_source;
pub mod discovery;
pub mod endpoint;
pub mod gateway;
pub mod hash;
pub mod kind;
pub mod listener;
pub mod manifest;
pub mod name;
pub mod policy;
pub mod resource;
pub mod route;
pub mod tls;
mod wire;
