//! Steps shared by both certificate services: authentication, limits, signing.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use mesh_common::tls::PeerInfo;
use mesh_core::spiffe::Identity;
use tokio::sync::Semaphore;
use tonic::metadata::MetadataMap;
use tonic::{Extensions, Request, Status};

use super::limits::RateLimiter;
use crate::authenticate::{Authenticators, Caller, Refusal};
use crate::ca::{Authority, Error, Requested, Signed};
use crate::metrics::Metrics;

/// Maximum number of requests that are signed or wait for it.
const QUEUE: usize = 256;

/// Requests per identity: burst and period. All Pods of a Deployment share an identity, so the
/// burst must cover a restart of all of them.
const PER_IDENTITY: (u32, Duration) = (200, Duration::from_secs(4));

/// Failed authentications per address: burst and period.
const FAILURES: (u32, Duration) = (50, Duration::from_secs(60));

/// The only text that a caller gets about a failed authentication.
const UNAUTHENTICATED: &str = "request authenticate failure";

/// Shared by all connections; clones are cheap.
#[derive(Clone, Debug)]
pub(crate) struct Signing {
    inner: Arc<Inner>,
}

#[derive(Debug)]
struct Inner {
    authority: Arc<Authority>,
    authenticators: Authenticators,
    own: Identity,
    queue: Arc<Semaphore>,
    per_identity: RateLimiter<String>,
    failures: RateLimiter<IpAddr>,
    metrics: Metrics,
}

/// Parts of a request that identify the caller.
pub(super) struct Credentials {
    peer: Option<PeerInfo>,
    metadata: MetadataMap,
}

impl Credentials {
    /// Splits a request into its credentials and its message.
    pub(super) fn of<T>(request: Request<T>) -> (Self, T) {
        let (metadata, extensions, message) = request.into_parts();
        let peer = peer(&extensions);
        (Self { peer, metadata }, message)
    }

    fn address(&self) -> Option<IpAddr> {
        self.peer
            .as_ref()
            .map(|peer| peer.remote.ip().to_canonical())
    }
}

fn peer(extensions: &Extensions) -> Option<PeerInfo> {
    extensions.get::<PeerInfo>().cloned()
}

impl Signing {
    /// `own` is the identity of the self-check, which is not counted.
    pub(crate) fn new(
        authority: Arc<Authority>,
        authenticators: Authenticators,
        own: Identity,
        metrics: Metrics,
    ) -> Self {
        Self {
            inner: Arc::new(Inner {
                authority,
                authenticators,
                own,
                queue: Arc::new(Semaphore::new(QUEUE)),
                per_identity: RateLimiter::new(PER_IDENTITY.0, PER_IDENTITY.1),
                failures: RateLimiter::new(FAILURES.0, FAILURES.1),
                metrics,
            }),
        }
    }

    pub(super) fn metrics(&self) -> &Metrics {
        &self.inner.metrics
    }

    /// Authenticates the caller; with `certificate_only` a token is not accepted.
    pub(super) async fn authenticate(
        &self,
        credentials: &Credentials,
        certificate_only: bool,
    ) -> Result<Caller, Status> {
        let inner = &self.inner;
        let now = Instant::now();
        let address = credentials.address();
        if address.is_some_and(|address| !inner.failures.has(&address, now)) {
            inner.metrics.authentication_failures.inc();
            return Err(Status::resource_exhausted(
                "too many failed authentications from this address",
            ));
        }
        let chain = credentials
            .peer
            .as_ref()
            .map(|peer| &*peer.certificates)
            .unwrap_or_default();
        let caller = if certificate_only {
            inner.authenticators.by_certificate(chain)
        } else {
            inner
                .authenticators
                .authenticate(chain, &credentials.metadata)
                .await
        };
        let caller = caller.map_err(|refusal| {
            inner.metrics.authentication_failures.inc();
            tracing::info!(peer = ?address, reason = %refusal, "caller refused");
            match refusal {
                Refusal::Unauthenticated(_) => {
                    if let Some(address) = address {
                        inner.failures.take(address, now);
                    }
                    Status::unauthenticated(UNAUTHENTICATED)
                }
                Refusal::Unavailable(_) => {
                    Status::unavailable("callers cannot be authenticated at the moment")
                }
            }
        })?;
        if !inner.per_identity.take(caller.identity.to_string(), now) {
            return Err(Status::resource_exhausted(
                "too many requests from this identity",
            ));
        }
        Ok(caller)
    }

    /// Signs on a separate thread. The outer `Err` concerns this process, the inner one the
    /// request.
    pub(super) async fn sign(
        &self,
        credentials: &Credentials,
        caller: &Caller,
        csr: Vec<u8>,
        requested: Requested,
    ) -> Result<Result<Signed, Error>, Status> {
        let inner = &self.inner;
        let permit = Arc::clone(&inner.queue)
            .try_acquire_owned()
            .map_err(|_| Status::resource_exhausted("too many concurrent requests"))?;
        let (authority, identity) = (Arc::clone(&inner.authority), caller.identity.clone());
        let signed = tokio::task::spawn_blocking(move || {
            let signed = authority.sign_csr(&csr, &identity, requested, SystemTime::now());
            drop(permit);
            signed
        })
        .await
        .map_err(|error| Status::internal(format!("signing was interrupted: {error}")))?;
        match &signed {
            Ok(signed) => {
                if caller.identity != inner.own {
                    inner.metrics.issued.inc();
                }
                tracing::info!(
                    caller = %caller.identity,
                    source = caller.source.name(),
                    peer = ?credentials.address(),
                    serial = %signed.leaf.serial,
                    not_after = signed.leaf.not_after.duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default().as_secs(),
                    "certificate issued"
                );
            }
            Err(error) => {
                if matches!(error, Error::Csr(_)) {
                    inner.metrics.csr_parsing_errors.inc();
                }
                inner.metrics.refused(error);
                tracing::info!(caller = %caller.identity, peer = ?credentials.address(), error = %error, "certificate refused");
            }
        }
        Ok(signed)
    }

    /// Counts a request unless it comes from the self-check.
    pub(super) fn count(&self, caller: Option<&Caller>) {
        if caller.is_none_or(|caller| caller.identity != self.inner.own) {
            self.inner.metrics.csr.inc();
        }
    }
}
