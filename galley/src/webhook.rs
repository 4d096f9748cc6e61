//! The admission webhook: the API server does not store what validation rejects.
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
