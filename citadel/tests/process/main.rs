//! Tests of the process over real gRPC and TLS.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "test code")]

mod cluster;
mod control_plane;
mod harness;
mod issuance;
mod lifecycle;
mod refusals;
