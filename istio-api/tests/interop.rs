//! Bytes on the configuration stream, compared with bytes assembled by hand from the field numbers
//! of Istio 1.1, so that the code under test never encodes both sides.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    reason = "a helper that fails fails its test"
)]

#[path = "interop/bodies.rs"]
mod bodies;
#[path = "interop/messages.rs"]
mod messages;
#[path = "interop/wire.rs"]
mod wire;
