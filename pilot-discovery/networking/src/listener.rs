//! Listeners of sidecars, and the filters that gateways share with them.

pub mod access_log;
pub mod filter;
pub mod http_connection_manager;
pub mod inbound;
pub mod outbound;
pub mod tcp;
