//! Pod injection webhook.
//!
//! The core is pure: [`inject::inject`] computes the injected Pod and its patch from a Pod and a
//! [`config::Config`]. Around it are the webhook, which responds to the API server, and [`run()`],
//! which keeps configuration and certificates up to date. Offline tools call the same core.

pub mod args;
pub mod config;
pub mod inject;
mod mesh_config;
mod metrics;
pub mod offline;
pub mod patch;
pub mod pod;
pub mod policy;
mod refusal;
mod registration;
pub mod review;
mod run;
pub mod selector;
pub mod template;
mod webhook;
mod workload;

pub use args::Args;
pub use run::{Bound, run};
