//! Tests of the agent with its real peers where available (Envoy, the kernel), else with fakes.
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

/// The binary under test.
const AGENT: &str = env!("CARGO_BIN_EXE_pilot-agent");
