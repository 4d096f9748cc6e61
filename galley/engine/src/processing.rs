//! Objects that are made from others: synthetic ServiceEntries from Services, Gateways and
//! VirtualServices from Ingresses; and references to missing hosts.

pub mod ingress;
mod protocol;
pub mod reference;
pub mod registry;
pub mod synthesis;
