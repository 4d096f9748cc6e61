//! Server side configuration.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use tokio::sync::watch;

use super::files::{CertFiles, KeyPair, load_pair, load_roots, not_after};
use super::reload::{Reloading, Status};
use super::{Error, H2};
use crate::drain;

/// What is asked of clients. A certificate that is given is always verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClientAuth {
    /// No certificate is asked for; trust anchors are not read.
    None,
    /// A certificate may be given.
    Optional,
    /// Without a certificate there is no connection.
    Required,
}

/// How a server speaks TLS.
#[derive(Clone, Debug)]
pub struct ServerOptions {
    /// See [`ClientAuth`].
    pub client_auth: ClientAuth,
    /// Protocols offered, most wanted first.
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

/// Makes a configuration for TLS 1.2 and 1.3. Without trust anchors no client certificate is
/// asked for. Sessions end with the configuration, so that a removed anchor ends resumption.
///
/// # Errors
/// If certificate and key are not a pair, or the anchors are empty. `path` names the source of
/// the certificate in errors.
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
        (_, None) => return Err(Error::Verifier("none given to verify clients".to_owned())),
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

/// A server configuration that follows its files: read again on events and every minute, for new
/// connections. A bad file keeps the old configuration and is counted in [`Status`].
/// Clones share it.
#[derive(Clone, Debug)]
pub struct ReloadingServerConfig(Arc<Reloading<ServerConfig>>);

/// How often files are looked for at the start.
const WAIT_STEP: Duration = Duration::from_millis(500);

impl ReloadingServerConfig {
    /// Reads the files once. Call [`follow`](Self::follow) to have changes noticed.
    ///
    /// # Errors
    /// If a file is missing or wrong.
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

    /// As [`load`](Self::load), but waits for files that are not there or cannot be used yet, as
    /// long as it takes: somebody else writes them, and a process that gives up helps nobody. Each
    /// new reason is told in the log.
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

    /// For a process that makes its configuration itself and calls [`replace`](Self::replace).
    #[must_use]
    pub fn fixed(config: ServerConfig, not_after: Option<SystemTime>) -> Self {
        Self(Arc::new(Reloading::fixed(Arc::new(config), not_after)))
    }

    /// New connections use `config` from now on.
    pub fn replace(&self, config: ServerConfig, not_after: Option<SystemTime>) {
        self.0.replace(Arc::new(config), not_after);
    }

    /// Starts a task that follows the files until the drain begins.
    pub fn follow(&self, drain: &drain::Watch) {
        Arc::clone(&self.0).follow(drain);
    }

    /// Looks at the files now. True if their contents are new and in use.
    #[must_use = "says whether there is a new configuration"]
    pub fn reload(&self) -> bool {
        self.0.reload()
    }

    /// The configuration for a new connection.
    #[must_use]
    pub fn current(&self) -> Arc<ServerConfig> {
        self.0.current()
    }

    /// Reloads, failures and the end of the certificate, for metrics.
    #[must_use]
    pub fn status(&self) -> watch::Receiver<Status> {
        self.0.status()
    }
}
