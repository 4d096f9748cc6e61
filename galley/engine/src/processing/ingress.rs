//! Ingresses as Gateways and VirtualServices: which of them are ours (`select`), what one of
//! them says (`convert`), and what all of them together make (`index`).
//!
//! Every Ingress has a Gateway; every host has one VirtualService, to which all Ingresses
//! contribute that name it. A change makes anew what the changed Ingresses have a part in.

mod convert;
mod index;
mod select;

pub use convert::{Issue, Ports};
pub use index::{Ingresses, Made};
pub use select::{Mode, Settings};
