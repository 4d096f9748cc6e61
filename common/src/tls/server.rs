//! TLS configuration of servers.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use super::files::{CertFiles, KeyPair, load_pair, load_roots, not_after};
use super::reload::{Reloading, Status};
use super::{Error, H2};
use crate::drain;
use crate::fswatch::WatchDied;

/// Whether clients must present a certificate. A certificate that is presented is always verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is requested; trust anchors are not read.
    None,
    /// A certificate is optional.
    Optional,
    /// A certificate is required.
    Required,
}

/// TLS options of a server.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// See [`ClientAuth`].
    pub client_auth: ClientAuth,
    /// Offered protocols, in order of preference.
    pub alpn: Vec<Vec<u8>>,
}

impl ServerOptions {
    /// For gRPC: ALPN `h2` only.
    #[must_use]
    pub fn grpc(client_auth: ClientAuth) -> Self {
        Self {
            client_auth,
            alpn: vec![H2.to_vec()],
        }
    }

    /// For HTTPS without client certificates: `h2` and `http/1.1`.
    #[must_use]
    pub fn https() -> Self {
        Self {
            client_auth: ClientAuth::None,
            alpn: vec![H2.to_vec(), super::HTTP_1_1.to_vec()],
        }
    }
}

/// Creates a configuration for TLS 1.2 and 1.3. Without trust anchors no client certificate is
/// requested. Sessions end with the configuration, so that a removed anchor ends resumption.
///
/// # Errors
/// If certificate and key do not match, or the anchors are empty. `path` names the source of the
/// certificate in errors.
pub fn server_config(
    pair: KeyPair,
    roots: Option<RootCertStore>,
    options: &ServerOptions,
    path: &str,
) -> Result<ServerConfig, Error> {
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_safe_default_protocol_versions()
        .map_err(|error| Error::Verifier(error.to_string()))?;
    let builder = match (options.client_auth, roots) {
        (ClientAuth::None, _) => builder.with_no_client_auth(),
        (_, None) => {
            return Err(Error::Verifier(
                "there are none to verify clients".to_owned(),
            ));
        }
        (auth, Some(roots)) => {
            let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
            let verifier = if auth == ClientAuth::Optional {
                verifier.allow_unauthenticated()
            } else {
                verifier
            };
            let verifier = verifier
                .build()
                .map_err(|error| Error::Verifier(error.to_string()))?;
            builder.with_client_cert_verifier(verifier)
        }
    };
    let mut config = builder
        .with_single_cert(pair.chain, pair.key)
        .map_err(|source| Error::Pair {
            path: path.to_owned(),
            source,
        })?;
    config.alpn_protocols.clone_from(&options.alpn);
    Ok(config)
}

/// A server configuration that follows its files: they are read again on events and every minute,
/// and changes apply to new connections. If a file is invalid, the old configuration stays in use
/// and [`Status`] counts the failure. Clones share it.
#[derive(Clone, Debug)]
pub struct ReloadingServerConfig(Arc<Reloading<ServerConfig>>);

/// Interval at which missing files are checked at the start.
const WAIT_STEP: Duration = Duration::from_millis(500);

impl ReloadingServerConfig {
    /// Reads the files once. Call [`follow`](Self::follow) to apply later changes.
    ///
    /// # Errors
    /// If a file is missing or invalid.
    pub fn load(files: &CertFiles, options: ServerOptions) -> Result<Self, Error> {
        let mut paths = vec![files.cert_chain.clone(), files.key.clone()];
        if options.client_auth != ClientAuth::None {
            paths.push(files.root.clone());
        }
        let files = files.clone();
        let load = move || {
            let pair = load_pair(&files.cert_chain, &files.key)?;
            let end = pair.chain.first().and_then(|leaf| not_after(leaf));
            let roots = match options.client_auth {
                ClientAuth::None => None,
                _ => Some(load_roots(&files.root)?),
            };
            let path = files.cert_chain.display().to_string();
            let config = server_config(pair, roots, &options, &path)?;
            Ok((Arc::new(config), end))
        };
        Reloading::new(paths, Box::new(load)).map(|inner| Self(Arc::new(inner)))
    }

    /// Like [`load`](Self::load), but waits without a limit for files that are missing or invalid:
    /// something else writes them, and giving up would not help. Each new reason is logged.
    pub async fn wait(files: &CertFiles, options: ServerOptions) -> Self {
        let mut told = String::new();
        loop {
            let reason = match Self::load(files, options.clone()) {
                Ok(config) => return config,
                Err(error) => error.to_string(),
            };
            if reason != told {
                tracing::info!(error = reason, "waiting for certificates");
                told = reason;
            }
            tokio::time::sleep(WAIT_STEP).await;
        }
    }

    /// For a process that creates its configuration itself and calls [`replace`](Self::replace).
    #[must_use]
    pub fn fixed(config: ServerConfig, not_after: Option<SystemTime>) -> Self {
        Self(Arc::new(Reloading::fixed(Arc::new(config), not_after)))
    }

    /// Uses `config` for new connections.
    pub fn replace(&self, config: ServerConfig, not_after: Option<SystemTime>) {
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
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }

    /// Number of reloads and failures, and expiry of the certificate, for metrics.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status()
    }
}
