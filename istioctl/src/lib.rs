//! Command line tool for users of the mesh. It uses the libraries of the components, so that both
//! always agree.

pub mod analyze;
pub mod args;
pub mod cli;
pub mod cluster;
pub mod exit;
pub mod kube_inject;
