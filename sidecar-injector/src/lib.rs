//! Pod injection webhook.
//!
//! The core is pure: [`inject::inject`] makes the injected Pod and its patch from a Pod and a
//! [`config::Config`]. Around it stand the webhook, which answers the API server, and [`run()`], which
//! keeps configuration and certificates up to date. Tools that inject offline call the same core.

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
