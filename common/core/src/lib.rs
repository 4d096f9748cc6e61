//! What all processes of the mesh share, without IO: the configuration protocol, YAML, identities,
//! limits, durations and delays. Time and randomness are arguments.

#![deny(missing_docs)]

pub mod backoff;
pub mod debounce;
pub mod duration;
pub mod limit;
pub mod mcp;
pub mod rate;
pub mod spiffe;
pub mod yaml;
