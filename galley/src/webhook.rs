//! The admission webhook: what validation refuses never reaches the API server's store.
//!
//! ```text
//! API server ──AdmissionReview──► server ──► review (pure) ──► istio_rules::validation
//!                                   │
//!                                metrics
//! ```

pub mod metrics;
pub mod registration;
pub mod review;
pub mod server;

pub use metrics::Metrics;
