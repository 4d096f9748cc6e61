//! The certificate authority: one bundle of key, certificates and trust anchors, and signing with
//! it.
//!
//! Everything here is a function of values; the current time is an argument.

mod bundle;
mod csr;
mod error;
pub(crate) mod leaf;
pub(crate) mod pem;
mod ttl;

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use mesh_core::spiffe::Identity;
use tokio::sync::watch;
use zeroize::Zeroizing;

pub use bundle::{Bundle, BundleError, Kind, Material};
pub use csr::{PublicKey, parse as parse_csr};
pub use error::Error;
pub use leaf::{Leaf, Names};
pub use ttl::{Requested, TtlPolicy};

/// Signs with the current bundle. The bundle is replaced as a whole.
#[derive(Debug)]
pub struct Authority {
    bundle: ArcSwap<Bundle>,
    policy: TtlPolicy,
    common_name: bool,
    generation: watch::Sender<u64>,
}

/// A certificate for a caller and the bundle that it belongs to.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The certificate.
    pub leaf: Leaf,
    /// The bundle that signed it.
    pub bundle: Arc<Bundle>,
}

/// A certificate and its key for a process of the control plane.
pub struct Issued {
    /// The certificate.
    pub leaf: Leaf,
    /// Its key, PKCS#8 as PEM.
    pub key: Zeroizing<String>,
    /// The bundle that signed it.
    pub bundle: Arc<Bundle>,
}

impl std::fmt::Debug for Issued {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Issued")
            .field("leaf", &self.leaf)
            .finish_non_exhaustive()
    }
}

impl Issued {
    /// The certificate and its intermediates as PEM, without the root.
    #[must_use]
    pub fn chain_pem(&self) -> String {
        let mut chain = self.leaf.pem.clone();
        chain.extend(self.bundle.intermediates().iter().map(String::as_str));
        chain
    }
}

impl Authority {
    /// `common_name` also puts the first name into the subject (1.1's dual use).
    #[must_use]
    pub fn new(bundle: Bundle, policy: TtlPolicy, common_name: bool) -> Self {
        Self {
            bundle: ArcSwap::from_pointee(bundle),
            policy,
            common_name,
            generation: watch::Sender::new(0),
        }
    }

    /// The current bundle.
    #[must_use]
    pub fn bundle(&self) -> Arc<Bundle> {
        self.bundle.load_full()
    }

    /// Signs with `bundle` from now on and notifies [subscribers](Self::subscribe).
    pub fn replace(&self, bundle: Bundle) {
        self.bundle.store(Arc::new(bundle));
        self.generation.send_modify(|generation| *generation += 1);
    }

    /// Changes with every [`replace`](Self::replace).
    #[must_use]
    pub fn subscribe(&self) -> watch::Receiver<u64> {
        self.generation.subscribe()
    }

    /// Accepted lifetimes.
    #[must_use]
    pub fn policy(&self) -> &TtlPolicy {
        &self.policy
    }

    /// Signs the key of a request for `identity`. Names in the request have no effect.
    ///
    /// # Errors
    /// [`Error::Csr`], [`Error::Ttl`] or [`Error::CertGen`].
    pub fn sign_csr(
        &self,
        csr: &[u8],
        identity: &Identity,
        requested: Requested,
        now: SystemTime,
    ) -> Result<Signed, Error> {
        let request = csr::parse(csr)?;
        if request.names_others(identity) {
            tracing::info!(caller = %identity, "ignored other names in the signing request");
        }
        let ttl = self.policy.resolve(requested)?;
        let bundle = self.bundle();
        let names = Names {
            identity: Some(identity),
            dns: &[],
        };
        let leaf = bundle.sign(&request, &names, ttl, self.common_name, now)?;
        Ok(Signed { leaf, bundle })
    }

    /// Creates a key of `kind` and a certificate with these names, for the control plane itself.
    ///
    /// # Errors
    /// [`Error::CertGen`]
    pub fn issue(
        &self,
        names: &Names<'_>,
        kind: Kind,
        ttl: Duration,
        now: SystemTime,
    ) -> Result<Issued, Error> {
        let bundle = self.bundle();
        let key = kind.generate()?;
        let leaf = bundle.sign(&key, names, ttl, false, now)?;
        Ok(Issued {
            leaf,
            key: Zeroizing::new(key.serialize_pem()),
            bundle,
        })
    }
}
