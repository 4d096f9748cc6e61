//! TLS of the mesh: configurations that follow their files, SPIFFE verification, accept loop,
//! channel.

mod channel;
mod client;
mod files;
mod incoming;
mod reload;
mod server;

pub use channel::{Connector, channel};
pub use client::{ClientFiles, ReloadingClientConfig, Verify, client_config};
pub use files::{CertFiles, KeyPair, certificates, load_pair, load_roots, not_after};
pub use incoming::{Incoming, Limits, Open, PeerInfo, TlsConnection, incoming};
pub use reload::Status;
pub use server::{ClientAuth, ReloadingServerConfig, ServerOptions, server_config};

use rustls_pki_types::CertificateDer;

use mesh_core::spiffe;

/// ALPN of gRPC.
pub const H2: &[u8] = b"h2";

/// ALPN of plain HTTPS.
pub const HTTP_1_1: &[u8] = b"http/1.1";

/// Why a TLS configuration cannot be created.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("cannot read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// Error of the operating system.
        source: std::io::Error,
    },
    /// The content of a file is invalid.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What is wrong with it.
        reason: String,
    },
    /// Certificate and key do not match, or rustls rejects them for another reason.
    #[error("cannot use the certificate {path}: {source}")]
    Pair {
        /// File of the certificate.
        path: String,
        /// Error of rustls.
        source: rustls::Error,
    },
    /// The trust anchors are invalid.
    #[error("invalid trust anchors: {0}")]
    Verifier(String),
}

/// URI names of the first certificate: the identities of the peer. Empty without a certificate. TLS
/// must have verified the chain.
#[must_use]
pub fn peer_identities(chain: &[CertificateDer<'_>]) -> Vec<String> {
    chain
        .first()
        .and_then(|leaf| spiffe::uri_names(leaf).ok())
        .unwrap_or_default()
}
