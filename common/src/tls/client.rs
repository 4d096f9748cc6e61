//! TLS configuration of clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::SystemTime;

use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::CryptoProvider;
use rustls::server::ParsedCertificate;
use rustls::{
    CertificateError, ClientConfig, DigitallySignedStruct, RootCertStore, SignatureScheme,
};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use tokio::sync::watch;

use super::files::{CertFiles, KeyPair, load_pair, load_roots, not_after};
use super::reload::{Reloading, Status};
use super::{Error, H2, peer_identities};
use crate::drain;
use crate::fswatch::WatchDied;

/// How the server is verified. Its chain must lead to the trust anchors in any case.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verify {
    /// The certificate must have the DNS name (or address) that is dialled.
    Dns,
    /// The certificate must have one of these URI names; the dialled name does not matter.
    Identities(Vec<String>),
}

/// Files of a client.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientFiles {
    /// Trust anchors that verify the server.
    pub root: PathBuf,
    /// Own certificate chain and key, if the server may request them.
    pub pair: Option<(PathBuf, PathBuf)>,
}

impl From<CertFiles> for ClientFiles {
    fn from(files: CertFiles) -> Self {
        Self {
            root: files.root,
            pair: Some((files.cert_chain, files.key)),
        }
    }
}

/// Creates a configuration for gRPC (ALPN `h2`), TLS 1.2 and 1.3.
///
/// # Errors
/// If the own certificate and key do not match, or there are no trust anchors. `path` names the
/// source of the certificate in errors.
pub fn client_config(
    roots: RootCertStore,
    pair: Option<KeyPair>,
    verify: &Verify,
    path: &str,
) -> Result<ClientConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Verifier(error.to_string()))?;
    let roots = Arc::new(roots);
    let webpki =
        WebPkiServerVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider))
            .build()
            .map_err(|error| Error::Verifier(error.to_string()))?;
    let builder = match verify {
        Verify::Dns => builder.with_webpki_verifier(webpki),
        Verify::Identities(identities) => {
            builder
                .dangerous()
                .with_custom_certificate_verifier(Arc::new(IdentityVerifier {
                    roots,
                    provider,
                    webpki,
                    identities: identities.clone(),
                }))
        }
    };
    let mut config = match pair {
        None => builder.with_no_client_auth(),
        Some(pair) => builder
            .with_client_auth_cert(pair.chain, pair.key)
            .map_err(|source| Error::Pair {
                path: path.to_owned(),
                source,
            })?,
    };
    config.alpn_protocols = vec![H2.to_vec()];
    Ok(config)
}

/// Verifies the chain without a name, then the URI names: webpki only knows DNS names and
/// addresses.
#[derive(Debug)]
struct IdentityVerifier {
    roots: Arc<RootCertStore>,
    provider: Arc<CryptoProvider>,
    webpki: Arc<WebPkiServerVerifier>,
    identities: Vec<String>,
}

impl ServerCertVerifier for IdentityVerifier {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        _: &ServerName<'_>,
        _: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        let certificate = ParsedCertificate::try_from(end_entity)?;
        rustls::client::verify_server_cert_signed_by_trust_anchor(
            &certificate,
            &self.roots,
            intermediates,
            now,
            self.provider.signature_verification_algorithms.all,
        )?;
        let names = peer_identities(std::slice::from_ref(end_entity));
        match names.as_slice() {
            [name] if self.identities.contains(name) => Ok(ServerCertVerified::assertion()),
            _ => {
                tracing::warn!(
                    found = ?names,
                    wanted = ?self.identities,
                    "the server has another identity than expected"
                );
                Err(CertificateError::NotValidForName.into())
            }
        }
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki
            .verify_tls12_signature(message, certificate, signature)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.webpki
            .verify_tls13_signature(message, certificate, signature)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.webpki.supported_verify_schemes()
    }
}

/// A client configuration that follows its files; see
/// [`ReloadingServerConfig`](super::ReloadingServerConfig). Clones share it.
#[derive(Clone, Debug)]
pub struct ReloadingClientConfig(Arc<Reloading<ClientConfig>>);

impl ReloadingClientConfig {
    /// Reads the files once. Call [`follow`](Self::follow) to apply later changes.
    ///
    /// # Errors
    /// If a file is missing or invalid.
    pub fn load(files: ClientFiles, verify: Verify) -> Result<Self, Error> {
        let mut paths = vec![files.root.clone()];
        paths.extend(
            files
                .pair
                .iter()
                .flat_map(|(chain, key)| [chain.clone(), key.clone()]),
        );
        let load = move || {
            let roots = load_roots(&files.root)?;
            let (pair, path) = match &files.pair {
                None => (None, String::new()),
                Some((chain, key)) => (Some(load_pair(chain, key)?), chain.display().to_string()),
            };
            let end = pair
                .as_ref()
                .and_then(|pair| pair.chain.first())
                .and_then(|leaf| not_after(leaf));
            Ok((Arc::new(client_config(roots, pair, &verify, &path)?), end))
        };
        Reloading::new(paths, Box::new(load)).map(|inner| Self(Arc::new(inner)))
    }

    /// For a process that creates its configuration itself and calls [`replace`](Self::replace).
    #[must_use]
    pub fn fixed(config: ClientConfig, not_after: Option<SystemTime>) -> Self {
        Self(Arc::new(Reloading::fixed(Arc::new(config), not_after)))
    }

    /// Uses `config` for new connections.
    pub fn replace(&self, config: ClientConfig, not_after: Option<SystemTime>) {
        self.0.replace(Arc::new(config), not_after);
    }

    /// Follows the files until the drain begins.
    ///
    /// # Errors
    /// When the files are no longer watched.
    pub fn follow(
        &self,
        drain: drain::Watch,
    ) -> impl Future<Output = Result<(), WatchDied>> + Send + use<> {
        Arc::clone(&self.0).follow(drain)
    }

    /// Checks the files now. Returns true if their contents are new and in use.
    #[must_use = "says whether there is a new configuration"]
    pub fn reload(&self) -> bool {
        self.0.reload()
    }

    /// The configuration for a new connection.
    #[must_use]
    pub fn current(&self) -> Arc<ClientConfig> {
        self.0.current()
    }

    /// Number of reloads and failures, and expiry of the certificate, for metrics.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status()
    }
}
