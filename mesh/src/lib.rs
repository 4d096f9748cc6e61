//! The mesh on one machine: the local Pod runner behind `cargo mesh`, and the library with
//! which tests and benchmarks drive it.

pub mod admin;
pub mod check;
pub mod cli;
pub mod env;
pub mod handle;
pub mod http;
pub mod layout;
pub mod lifeline;
pub mod manifest;
pub mod node;
pub mod platform;
pub mod privilege;
pub mod start;
pub mod state;
pub mod stream;
pub mod terminal;
pub mod wait;
