//! Galley as a process, with sinks on real connections.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

mod bad_input;
mod cluster;
mod files;
mod harness;
mod ingress;
mod interop;
mod kubernetes;
mod peers;
mod push;
mod reports;
mod status;
mod supervision;
mod transport;
mod webhook;
