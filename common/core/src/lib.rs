//! What the processes of the mesh decide alike, without IO: the configuration protocol, YAML,
//! identities, limits, durations and delays. Time and chance are arguments.

pub mod backoff;
pub mod debounce;
pub mod duration;
pub mod limit;
pub mod mcp;
pub mod rate;
pub mod spiffe;
pub mod yaml;
