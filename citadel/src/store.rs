//! Storage of the authority's key and certificates.

pub(crate) mod atomic;
pub mod plugged;
pub mod root;
pub(crate) mod secret;
pub mod self_signed;

use crate::ca::BundleError;

/// Why there is no initial bundle.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory cannot be read or written.
    #[error("cannot {action} {path}: {source}")]
    Io {
        /// The operation that failed.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The files or the Secret exist but cannot be used. They are never replaced.
    #[error("the certificate authority in {path} cannot be used: {reason}; {advice}")]
    Unusable {
        /// The directory, or the Secret.
        path: String,
        /// What is wrong.
        reason: BundleError,
        /// How to repair it.
        advice: &'static str,
    },
    /// Parts of a set are missing.
    #[error("incomplete certificate authority in {path}: {missing} is missing")]
    Incomplete {
        /// The directory, the flags, or the Secret.
        path: String,
        /// What is missing.
        missing: String,
    },
    /// A root cannot be created.
    #[error("cannot create a root certificate: {0}")]
    Make(String),
    /// The set is complete but may not be used as it is.
    #[error("{0}")]
    Refused(String),
}

pub(crate) fn io(
    action: &'static str,
    path: &std::path::Path,
) -> impl FnOnce(std::io::Error) -> StoreError {
    let path = path.display().to_string();
    move |source| StoreError::Io {
        action,
        path,
        source,
    }
}
