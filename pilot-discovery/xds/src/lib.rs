//! The xDS protocol of one aggregated stream, state of the world and delta, without IO.
//!
//! ```text
//! bytes ──request──► Request ──► Stream ──► Response (resources are encoded already)
//!                       View ──────┘  watch: what a proxy subscribed to, was sent and took
//! ```
//!
//! A stream is driven by requests and views and answers with what to send; whoever owns the
//! socket writes it.

pub mod names;
pub mod request;
pub mod stream;
pub mod view;
pub mod watch;
