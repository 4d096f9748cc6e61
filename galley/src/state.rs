//! The state of the process and the one task that changes it.
//!
//! Updates of the source go through the [`store`] (which object is in force) to the working
//! snapshot: Istio objects as they are, Kubernetes objects by way of the
//! [registry](crate::processing::registry). What is published is a clone of the working snapshot,
//! which costs a reference per collection; the maps behind it share structure.

mod engine;
pub mod store;
mod task;

pub use engine::{Engine, Report};
pub use task::{Query, QueryHandle, Task};
