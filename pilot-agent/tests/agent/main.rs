//! The agent against its real peers where they can be had (Envoy, the kernel), else against fakes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "test code"
)]

mod authority;
mod bootstrap;
mod commands;
mod envoy;
mod iptables;
mod issuing;
mod pilot;
mod pod;
mod proxy;
mod sds;

/// The agent's binary.
const AGENT: &str = env!("CARGO_BIN_EXE_pilot-agent");
