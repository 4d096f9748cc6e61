//! Envoy as a child process.

pub mod admin;
pub mod command;
pub mod drain;
pub mod process;
