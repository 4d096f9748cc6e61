//! TLS of the mesh: configurations that follow their files, SPIFFE checks, accept loop, channel.

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

/// Why a TLS configuration cannot be made.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file cannot be read.
    #[error("read {path}: {source}")]
    Read {
        /// The file.
        path: String,
        /// What the system said.
        source: std::io::Error,
    },
    /// A file does not hold what it must.
    #[error("{path}: {reason}")]
    Content {
        /// The file.
        path: String,
        /// What was found, or not found.
        reason: String,
    },
    /// Certificate and key are not a pair, or rustls refuses them for another reason.
    #[error("certificate {path}: {source}")]
    Pair {
        /// File of the certificate.
        path: String,
        /// What rustls said.
        source: rustls::Error,
    },
    /// The trust anchors cannot be used.
    #[error("trust anchors: {0}")]
    Verifier(String),
}

/// URI names of the first certificate: the identities of the peer. Empty without a certificate.
/// The chain must have been verified by TLS.
#[must_use]
pub fn peer_identities(chain: &[CertificateDer<'_>]) -> Vec<String> {
    chain
        .first()
        .and_then(|leaf| spiffe::uri_names(leaf).ok())
        .unwrap_or_default()
}
