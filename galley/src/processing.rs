//! What is made from other objects: synthetic ServiceEntries, and references that lead nowhere.
//! (The conversion of Ingress belongs here too.)

mod protocol;
pub mod reference;
pub mod registry;
pub mod synthesis;
