//! Who is calling. The first authenticator that succeeds wins: certificate, then token.

mod certificate;
mod claims;
mod jwks;
mod token;

use std::collections::BTreeSet;
use std::sync::Arc;

use mesh_common::spiffe::{Identity, TrustDomain};
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;

pub use jwks::{KeySet, KeySetError};
pub use token::{TokenAuthenticator, TokenOptions};

/// How the caller proved its identity, as logs name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Verified client certificate.
    Certificate,
    /// Projected ServiceAccount token.
    Token,
}

impl Source {
    /// Istio's name of the authenticator.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "ClientCertAuthenticator",
            Self::Token => "IDTokenAuthenticator",
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The only identity that it can get a certificate for, in the current trust domain.
    pub identity: Identity,
    /// How it proved that.
    pub source: Source,
}

/// Why a caller is not known. The text goes to the log only.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No credential is good.
    #[error("{0}")]
    Unauthenticated(String),
    /// It cannot be told at this time.
    #[error("{0}")]
    Unavailable(String),
}

/// Trust domains whose identities are accepted.
#[derive(Clone, Debug)]
pub struct Domains {
    /// The one that certificates are made for.
    pub own: TrustDomain,
    /// Earlier names of it.
    pub aliases: BTreeSet<TrustDomain>,
}

/// All authenticators of a process.
#[derive(Debug)]
pub struct Authenticators {
    domains: Domains,
    cluster_id: String,
    tokens: Option<Arc<TokenAuthenticator>>,
}

/// What every cluster is called that has no name of its own.
const DEFAULT_CLUSTER: &str = "Kubernetes";

impl Authenticators {
    /// Without `tokens` only certificates are accepted. `cluster_id` is the name that callers of
    /// this cluster may give in their metadata.
    #[must_use]
    pub fn new(
        domains: Domains,
        cluster_id: String,
        tokens: Option<Arc<TokenAuthenticator>>,
    ) -> Self {
        Self {
            domains,
            cluster_id,
            tokens,
        }
    }

    /// The caller with this verified certificate chain and these request headers.
    ///
    /// # Errors
    /// [`Refusal`] with the reasons of all authenticators.
    pub fn authenticate(
        &self,
        chain: &[CertificateDer<'_>],
        metadata: &MetadataMap,
    ) -> Result<Caller, Refusal> {
        let by_certificate = match self.by_certificate(chain) {
            Ok(caller) => return Ok(caller),
            Err(refusal) => refusal,
        };
        match self.by_token(metadata) {
            Err(Refusal::Unauthenticated(by_token)) => Err(Refusal::Unauthenticated(format!(
                "{by_certificate}; {by_token}"
            ))),
            other => other,
        }
    }

    /// The caller by its certificate alone.
    ///
    /// # Errors
    /// [`Refusal::Unauthenticated`]
    pub fn by_certificate(&self, chain: &[CertificateDer<'_>]) -> Result<Caller, Refusal> {
        let identity =
            certificate::identity(chain, &self.domains).map_err(Refusal::Unauthenticated)?;
        Ok(Caller {
            identity,
            source: Source::Certificate,
        })
    }

    fn by_token(&self, metadata: &MetadataMap) -> Result<Caller, Refusal> {
        let refused = |reason: &str| Refusal::Unauthenticated(reason.to_owned());
        let tokens = self
            .tokens
            .as_ref()
            .ok_or_else(|| refused("tokens are not accepted"))?;
        if let Some(cluster) = metadata.get("clusterid") {
            let known = cluster
                .to_str()
                .is_ok_and(|id| id.is_empty() || id == DEFAULT_CLUSTER || id == self.cluster_id);
            if !known {
                return Err(refused("token of an unknown cluster"));
            }
        }
        let token = metadata
            .get_all("authorization")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| refused("no bearer token"))?;
        let account = tokens.account(token.trim())?;
        let identity = Identity::new(self.domains.own.clone(), &account.namespace, &account.name)
            .map_err(|error| Refusal::Unauthenticated(error.to_string()))?;
        Ok(Caller {
            identity,
            source: Source::Token,
        })
    }
}
