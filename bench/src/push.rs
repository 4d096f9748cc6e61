//! Load on pilot-discovery: simulated sidecars over real gRPC.
//!
//! ```text
//! fixture ──files──► pilot-discovery (own process) ◄──ADS── sidecars (one task each)
//!    │                        │                                   │
//!    ├─ changes               └─ /proc: CPU, memory               ├─ bytes, responses, resends
//!    └─ what sidecars are to hold ───────── compared with ────────┴─ decoded resources
//! ```

pub mod decode;
pub mod fixture;
pub mod held;
pub mod kind;
pub mod raw;
pub mod run;
pub mod server;
pub mod sidecar;
pub mod table;
