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
pub mod registry;
pub mod server;
