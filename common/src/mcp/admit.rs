//! Admission of streams: which peers, and how many.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::{Request, Status};

use crate::tls::PeerInfo;
use mesh_core::rate::{LogLimit, TokenBucket};

/// Decides which peers may open a stream.
pub trait Authorize: Send + Sync + 'static {
    /// `identities`: the URI names of the verified leaf certificate, `None` for plaintext. Returns
    /// the identity to show, or the reason for the rejection.
    fn authorize(&self, identities: Option<&[String]>) -> Result<String, String>;
}

/// The decision, shared by the streams of servers.
pub type SharedAuthorize = Arc<dyn Authorize>;

/// Rates of new streams, and of log messages about rejected ones.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// Interval between new streams …
    pub(super) connect_interval: Duration,
    /// … after a burst of this many.
    pub(super) connect_burst: u32,
    /// Interval between log messages …
    pub(super) log_interval: Duration,
    /// … after a burst of this many.
    pub(super) log_burst: u32,
}

/// A peer that may open a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Empty if unknown.
    pub(super) address: String,
    /// Empty for plaintext.
    pub(super) identity: String,
}

/// Why a stream is rejected.
#[derive(Debug)]
pub(super) struct Refusal {
    /// Reason in one word, for counters.
    pub(super) label: &'static str,
    /// Status for the peer.
    pub(super) status: Status,
}

/// Admission on a port: all services behind it share its rates, and so do clones.
#[derive(Clone)]
pub struct Admission {
    authorize: SharedAuthorize,
    bucket: Arc<Mutex<TokenBucket>>,
    refusals: Arc<Mutex<LogLimit>>,
}

impl fmt::Debug for Admission {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Admission").finish_non_exhaustive()
    }
}

impl Admission {
    pub(super) fn new(authorize: SharedAuthorize, rates: Rates) -> Self {
        let bucket = TokenBucket::new(rates.connect_interval, rates.connect_burst);
        let refusals = LogLimit::new(rates.log_interval, rates.log_burst);
        Self {
            authorize,
            bucket: Arc::new(Mutex::new(bucket)),
            refusals: Arc::new(Mutex::new(refusals)),
        }
    }

    /// Decides about the sender of a request. `is_full`: the maximum number of streams is open.
    pub(super) fn admit<T>(
        &self,
        request: &Request<T>,
        is_full: bool,
    ) -> Result<Admitted, Refusal> {
        let busy = |label, text| Refusal {
            label,
            status: Status::resource_exhausted(text),
        };
        if !self.bucket.lock().take(Instant::now()) {
            return Err(busy("rate", "too many new streams: try again later"));
        }
        if is_full {
            return Err(busy("streams", "too many open streams: try again later"));
        }
        let (address, identities) = peer(request);
        match self.authorize.authorize(identities.as_deref()) {
            Ok(identity) => Ok(Admitted { address, identity }),
            Err(reason) => {
                if let Some(held_back) = self.refusals.lock().allow(Instant::now()) {
                    tracing::warn!(
                        peer = address,
                        ?identities,
                        error = reason,
                        held_back,
                        "rejected a peer"
                    );
                }
                let text = format!("Authentication failure: {reason}");
                Err(Refusal {
                    label: "identity",
                    status: Status::unauthenticated(text),
                })
            }
        }
    }
}

/// Address and certificate identities of the sender of a request.
fn peer<T>(request: &Request<T>) -> (String, Option<Vec<String>>) {
    if let Some(peer) = request.extensions().get::<PeerInfo>() {
        return (peer.remote.to_string(), Some(peer.identities()));
    }
    let address = request.remote_addr().map(|address| address.to_string());
    (address.unwrap_or_default(), None)
}
