//! The aggregated discovery service.
//!
//! ```text
//! gRPC stream ──► server (rate, auth) ──► connection task ──requests──► stream (pure protocol)
//!                                            ▲     │                        │
//!                      world: View ──────────┘     └◄── responses ──────────┘ ──► codec ──► gRPC
//! ```

pub mod auth;
pub mod codec;
pub mod connection;
pub mod kind;
pub mod names;
pub mod registry;
pub mod request;
pub mod server;
pub mod stream;
pub mod watch;
