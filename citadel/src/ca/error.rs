//! Reasons to refuse a certificate, by their label in the metrics.

/// One variant per label value of `citadel_server_csr_sign_err_count`.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// There is no signing key yet.
    #[error("CSR signing error (the certificate authority is not ready)")]
    NotReady,
    /// The signing request is not acceptable.
    #[error("CSR signing error ({0})")]
    Csr(String),
    /// The lifetime asked for is not acceptable.
    #[error("CSR signing error ({0})")]
    Ttl(String),
    /// Signing failed.
    #[error("CSR signing error ({0})")]
    CertGen(String),
}

impl Error {
    /// Value of the label `error`.
    #[must_use]
    pub fn label(&self) -> &'static str {
        match self {
            Self::NotReady => "CA_NOT_READY",
            Self::Csr(_) => "CSR_ERROR",
            Self::Ttl(_) => "TTL_ERROR",
            Self::CertGen(_) => "CERT_GEN_ERROR",
        }
    }

    /// All label values.
    pub const LABELS: [&'static str; 4] =
        ["CA_NOT_READY", "CSR_ERROR", "TTL_ERROR", "CERT_GEN_ERROR"];
}

impl From<rcgen::Error> for Error {
    fn from(error: rcgen::Error) -> Self {
        Self::CertGen(error.to_string())
    }
}
