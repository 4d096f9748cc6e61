//! What is made from other objects: synthetic ServiceEntries from Services, Gateways and
//! VirtualServices from Ingresses, and references that lead nowhere.

pub mod ingress;
mod protocol;
pub mod reference;
pub mod registry;
pub mod synthesis;
