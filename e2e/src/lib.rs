//! The mesh on one machine: the local Pod runner behind `cargo mesh`, and the library with
//! which whole-system tests drive it.

pub mod admin;
pub mod bench;
pub mod check;
pub mod cli;
pub mod cluster;
pub mod env;
pub mod http;
pub mod image;
pub mod layout;
pub mod lifeline;
pub mod manifest;
pub mod mesh;
pub mod node;
pub mod platform;
pub mod privilege;
pub mod report;
pub mod start;
pub mod state;
