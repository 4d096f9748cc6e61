//! The state of the mesh as pilot sees it, and the rules for merging configuration.
//!
//! ```text
//! objects (MCP or files) ──► builder ──► Snapshot (immutable, shared by pointer)
//!                               │            │
//!                               ▼            ▼
//!                            Changes    Client / Server views ──► generators (pilot-networking)
//! ```
//!
//! No IO, no clock, no locks: a [`snapshot::Snapshot`] is a value. [`builder::Builder`] is the only
//! writer; it turns changed objects into the next snapshot and reports what may differ.

#![deny(missing_docs)]

pub mod authn;
pub mod builder;
pub mod changes;
pub mod class;
pub mod config;
pub mod credential;
pub mod destination_rule;
pub mod gateway;
pub mod hashed;
pub mod host;
pub mod key;
pub mod lookup;
pub mod mesh;
pub mod protocol;
pub mod proxy;
pub mod scope;
pub mod service;
pub mod service_entry;
pub mod snapshot;
pub mod virtual_service;
