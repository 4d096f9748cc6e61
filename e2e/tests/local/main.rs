//! Whole meshes on this machine: real namespaces, processes, Envoys and requests.
//!
//! They need root, or a kernel that allows user namespaces; one mesh at a time.

mod bad_input;
mod chaos;
mod distribution;
mod fixture;
mod pods;
mod refusals;
mod rootless;
mod tasks;
