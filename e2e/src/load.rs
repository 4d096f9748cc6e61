//! Load on pilot-discovery: simulated sidecars over real gRPC.
//!
//! ```text
//! fixture ──files──► pilot-discovery (own process) ◄──ADS── sidecars (one task each)
//!    │                        │                                   │
//!    └─ changes               └─ /proc: CPU, memory               └─ bytes, time of arrival
//! ```

pub mod fixture;
pub mod raw;
pub mod run;
pub mod server;
pub mod sidecar;
