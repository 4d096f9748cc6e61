//! Who may open a stream, and how many.

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use parking_lot::Mutex;
use tonic::{Request, Status};

use crate::tls::PeerInfo;
use mesh_core::rate::{LogLimit, TokenBucket};

/// Decides which peer may open a stream.
pub trait Authorize: Send + Sync + 'static {
    /// `identities`: the URI names of the verified leaf certificate, `None` on plain text. Gives
    /// the identity to show, or the reason of the refusal.
    fn authorize(&self, identities: Option<&[String]>) -> Result<String, String>;
}

/// The decision that servers share between their streams.
pub type SharedAuthorize = Arc<dyn Authorize>;

/// Rates of new streams and of log lines about those that were refused.
#[derive(Debug, Clone, Copy)]
pub(super) struct Rates {
    /// One new stream per this time …
    pub(super) connect_interval: Duration,
    /// … and so many at once.
    pub(super) connect_burst: u32,
    /// One log line per this time …
    pub(super) log_interval: Duration,
    /// … and so many at once.
    pub(super) log_burst: u32,
}

/// Whoever may open a stream.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Admitted {
    /// Empty when unknown.
    pub(super) address: String,
    /// Empty on plain text.
    pub(super) identity: String,
}

/// Why a stream is not opened.
#[derive(Debug)]
pub(super) struct Refusal {
    /// In one word, for counters.
    pub(super) label: &'static str,
    /// What the peer is told.
    pub(super) status: Status,
}

/// The door of a port: all services behind it share its rates. Clones are the same door.
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

    /// Lets the sender of a request in. `is_full`: as many streams as there may be are open.
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
            return Err(busy("rate", "too many new streams, try again later"));
        }
        if is_full {
            return Err(busy("streams", "too many open streams, try again later"));
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
                        "refused a peer"
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

/// Address and certificate identities of whoever sent the request.
fn peer<T>(request: &Request<T>) -> (String, Option<Vec<String>>) {
    if let Some(peer) = request.extensions().get::<PeerInfo>() {
        return (peer.remote.to_string(), Some(peer.identities()));
    }
    let address = request.remote_addr().map(|address| address.to_string());
    (address.unwrap_or_default(), None)
}
