//! Where the authority's key and certificates are kept.

pub(crate) mod atomic;
pub mod plugged;
pub mod root;
pub(crate) mod secret;
pub mod self_signed;

use crate::ca::BundleError;

/// Why there is no bundle to start with.
#[derive(Debug, thiserror::Error)]
pub enum StoreError {
    /// A file or directory cannot be read or written.
    #[error("{action} {path}: {source}")]
    Io {
        /// What was tried.
        action: &'static str,
        /// The file or directory.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// They are there, but cannot be used. They are never replaced.
    #[error("certificate authority in {path} cannot be used: {reason}; {advice}")]
    Unusable {
        /// The directory, or the Secret.
        path: String,
        /// What is wrong.
        reason: BundleError,
        /// What to do about it.
        advice: &'static str,
    },
    /// Some parts of a set are missing.
    #[error("incomplete certificate authority in {path}: {missing} is missing")]
    Incomplete {
        /// The directory, the flags, or the Secret.
        path: String,
        /// What is missing.
        missing: String,
    },
    /// A root cannot be made.
    #[error("make a root certificate: {0}")]
    Make(String),
    /// The set is there, but it may not be used as it is.
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
