//! Ingresses as Gateways and VirtualServices: selects those of our class (`select`), converts each
//! (`convert`), and merges them (`index`).
//!
//! Each Ingress has its own Gateway; each host has one VirtualService, with the routes of all
//! Ingresses that name it. A change rebuilds only what the changed Ingresses contribute to.

mod convert;
mod index;
mod select;

pub use convert::{Issue, Ports};
pub use index::{Ingresses, Made};
pub use select::{Mode, Settings};
