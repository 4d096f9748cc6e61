//! Route configurations: VirtualServices and service defaults as virtual hosts.

pub mod destination;
pub mod http;
pub mod outbound;
pub mod source;
