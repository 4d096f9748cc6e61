//! What a person asks of the mesh. The answers come from the libraries that the components run, so
//! both always agree.

pub mod analyze;
pub mod args;
pub mod cli;
pub mod cluster;
pub mod exit;
pub mod kube_inject;
