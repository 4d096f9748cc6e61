//! Rules for the kinds that only 1.1 had.

pub(super) mod policy;
pub(super) mod rbac;
