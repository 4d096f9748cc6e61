//! The workload's certificates: issuance, renewal and storage.

use std::sync::Arc;
use std::{fmt, time::SystemTime};

use zeroize::Zeroizing;

pub mod ca;
pub mod chain;
pub mod file;
pub mod key;
pub mod manager;
pub mod metrics;
pub mod output;
pub mod rotation;
pub mod trust;

/// Resource name of the workload certificate.
pub const WORKLOAD: &str = "default";
/// Resource name of the trust bundle.
pub const TRUST: &str = "ROOTCA";

/// The workload certificate with its key.
#[derive(Clone)]
pub struct Workload {
    /// Private key, PEM; wiped when dropped.
    pub key: Zeroizing<String>,
    /// Leaf and intermediates, PEM.
    pub chain: String,
    /// When the leaf expires.
    pub not_after: SystemTime,
    /// When it was received.
    pub created: SystemTime,
}

impl Workload {
    /// Whether the leaf is still valid.
    #[must_use]
    pub fn is_valid(&self, now: SystemTime) -> bool {
        now < self.not_after
    }
}

impl PartialEq for Workload {
    fn eq(&self, other: &Self) -> bool {
        self.chain == other.chain && self.key == other.key
    }
}

impl fmt::Debug for Workload {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Workload")
            .field("not_after", &self.not_after)
            .finish_non_exhaustive()
    }
}

/// Content of the secret discovery server.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Secrets {
    /// The workload certificate, once available.
    pub workload: Option<Arc<Workload>>,
    /// The trust bundle as PEM, once available.
    pub trust: Option<Arc<str>>,
    /// A mounted revocation list.
    pub revocation_list: Option<Arc<str>>,
    /// The certificate has expired and could not be renewed.
    pub expired: bool,
}
