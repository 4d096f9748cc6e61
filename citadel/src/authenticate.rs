//! Authentication of callers. The first authenticator that succeeds decides: client certificate,
//! then token checked with the issuer's keys, then token checked by the API server.

mod accounts;
mod certificate;
mod claims;
mod jwks;
mod review;
mod token;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use mesh_core::spiffe::{Identity, TrustDomain};
use rustls_pki_types::CertificateDer;
use tonic::metadata::MetadataMap;

pub(crate) use accounts::{Accounts, Key};
use claims::Account;
pub use jwks::{KeySet, KeySetError};
pub(crate) use review::Reviewer;
pub use token::{TokenAuthenticator, TokenOptions};

/// Maximum size of a token, in bytes.
const MAX_TOKEN: usize = 16 * 1024;

/// Allowed clock skew.
const SKEW: Duration = Duration::from_secs(30);

/// How the caller proved its identity, for logs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Source {
    /// Verified client certificate.
    Certificate,
    /// Projected ServiceAccount token, checked with the issuer's keys.
    Token,
    /// Projected ServiceAccount token, checked by the API server.
    ReviewedToken,
}

impl Source {
    /// Istio's name of the authenticator.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Certificate => "ClientCertAuthenticator",
            Self::Token => "IDTokenAuthenticator",
            Self::ReviewedToken => "KubeJWTAuthenticator",
        }
    }
}

/// An authenticated caller.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Caller {
    /// The only identity it can get a certificate for, in the current trust domain.
    pub identity: Identity,
    /// How it proved that.
    pub source: Source,
}

/// Why a caller was not authenticated. The text is logged but never sent to the caller.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// No credential is valid.
    #[error("{0}")]
    Unauthenticated(String),
    /// Cannot be decided at the moment.
    #[error("{0}")]
    Unavailable(String),
}

impl Refusal {
    /// Combines the refusals of two authenticators. If one of them could not decide, the caller may
    /// try again.
    fn and(self, other: Self) -> Self {
        let text = format!("{self}; {other}");
        match (self, other) {
            (Self::Unauthenticated(_), Self::Unauthenticated(_)) => Self::Unauthenticated(text),
            _ => Self::Unavailable(text),
        }
    }
}

/// Trust domains whose identities are accepted.
#[derive(Clone, Debug)]
pub struct Domains {
    /// The one that certificates are issued for.
    pub own: TrustDomain,
    /// Its former names.
    pub aliases: BTreeSet<TrustDomain>,
}

/// All authenticators of a process.
#[derive(Debug)]
pub(crate) struct Authenticators {
    /// Accepted trust domains.
    pub(crate) domains: Domains,
    /// Cluster name that callers may give in their metadata.
    pub(crate) cluster_id: String,
    /// Identity of this process; its certificates need no ServiceAccount.
    pub(crate) own: Identity,
    /// ServiceAccounts of the cluster; without them a certificate is sufficient.
    pub(crate) accounts: Option<Arc<Accounts>>,
    /// Checks tokens with the issuer's keys.
    pub(crate) tokens: Option<Arc<TokenAuthenticator>>,
    /// Checks tokens with the API server.
    pub(crate) reviewer: Option<Arc<Reviewer>>,
}

/// Default cluster name.
const DEFAULT_CLUSTER: &str = "Kubernetes";

impl Authenticators {
    /// Authenticates a caller by its verified certificate chain and request headers. A refusal
    /// holds the reasons of all authenticators.
    pub(crate) async fn authenticate(
        &self,
        chain: &[CertificateDer<'_>],
        metadata: &MetadataMap,
    ) -> Result<Caller, Refusal> {
        let by_certificate = match self.by_certificate(chain) {
            Ok(caller) => return Ok(caller),
            Err(refusal) => refusal,
        };
        let by_token = self.by_token(metadata).await;
        by_token.map_err(|refusal| by_certificate.and(refusal))
    }

    /// Authenticates a caller by its certificate alone.
    pub(crate) fn by_certificate(&self, chain: &[CertificateDer<'_>]) -> Result<Caller, Refusal> {
        let identity =
            certificate::identity(chain, &self.domains).map_err(Refusal::Unauthenticated)?;
        // A holder of the key of citadel's own certificate could sign any other certificate anyway.
        if let Some(accounts) = self.accounts.as_ref().filter(|_| identity != self.own) {
            accounts.check(&identity)?;
        }
        Ok(Caller {
            identity,
            source: Source::Certificate,
        })
    }

    async fn by_token(&self, metadata: &MetadataMap) -> Result<Caller, Refusal> {
        let refused = |reason: &str| Refusal::Unauthenticated(reason.to_owned());
        if self.tokens.is_none() && self.reviewer.is_none() {
            return Err(refused("tokens are not accepted"));
        }
        if let Some(cluster) = metadata.get("clusterid") {
            let known = cluster
                .to_str()
                .is_ok_and(|id| id.is_empty() || id == DEFAULT_CLUSTER || id == self.cluster_id);
            if !known {
                return Err(refused("the token is from an unknown cluster"));
            }
        }
        let token = metadata
            .get_all("authorization")
            .iter()
            .filter_map(|value| value.to_str().ok())
            .find_map(|value| value.strip_prefix("Bearer "))
            .ok_or_else(|| refused("the request has no bearer token"))?
            .trim();
        let (account, source) = self.account(token).await?;
        let identity = Identity::new(self.domains.own.clone(), &account.namespace, &account.name)
            .map_err(|error| Refusal::Unauthenticated(error.to_string()))?;
        Ok(Caller { identity, source })
    }

    async fn account(&self, token: &str) -> Result<(Account, Source), Refusal> {
        let by_keys = match self.tokens.as_ref().map(|tokens| tokens.account(token)) {
            Some(Ok(account)) => return Ok((account, Source::Token)),
            Some(Err(refusal)) => Some(refusal),
            None => None,
        };
        let by_review = match &self.reviewer {
            Some(reviewer) => match reviewer.account(token).await {
                Ok(account) => return Ok((account, Source::ReviewedToken)),
                Err(refusal) => Some(refusal),
            },
            None => None,
        };
        let refusals = [by_keys, by_review].into_iter().flatten();
        let nobody = || Refusal::Unauthenticated("tokens are not accepted".to_owned());
        Err(refusals.reduce(Refusal::and).unwrap_or_else(nobody))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_caller_who_cannot_be_judged_may_try_again() {
        let no = || Refusal::Unauthenticated("a".to_owned());
        let later = || Refusal::Unavailable("b".to_owned());
        assert_eq!(no().and(no()), Refusal::Unauthenticated("a; a".to_owned()));
        assert_eq!(no().and(later()), Refusal::Unavailable("a; b".to_owned()));
        assert_eq!(later().and(no()), Refusal::Unavailable("b; a".to_owned()));
    }
}
